//! A response that may be taken back while it is under way.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};

/// Completes when a response is taken back. Set as an extension on responses, it has the stream reset at once, also
/// while the listener pauses and nobody asks the body for more; what was sent before cannot be called back. Cheap to
/// clone; all clones are one.
#[derive(Clone)]
pub struct Revocation(Shared<BoxFuture<'static, ()>>);

impl Revocation {
    /// Takes the response back when `when` completes.
    pub fn new(when: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(when.boxed().shared())
    }

    /// Whether somebody who waited for it has seen it happen.
    pub fn has_happened(&self) -> bool {
        self.0.peek().is_some()
    }
}

impl Future for Revocation {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.poll_unpin(context)
    }
}

impl fmt::Debug for Revocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Revocation").field(&self.has_happened()).finish()
    }
}
