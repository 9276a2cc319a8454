//! A response that can be revoked while it is being sent.

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

/// Completes when a response is revoked. As an extension of a response, it makes the link reset the stream at once,
/// even while the client pauses and no more of the body is requested. Bytes that were already sent cannot be taken
/// back. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Revocation(Shared<BoxFuture<'static, ()>>);

impl Revocation {
    /// Revokes the response when `when` completes.
    pub fn new(when: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(when.boxed().shared())
    }

    /// True if the revocation has happened and a task that waited for it has seen it.
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
