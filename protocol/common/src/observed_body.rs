//! A response body that is observed on its way to the client.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Buf;
use http_body::{Body, Frame, SizeHint};
use tracing::Span;

/// Gets what happens to a body with errors `E`.
pub trait BodyObserver<E> {
    /// This many bytes were handed to the connection.
    fn passed(&mut self, bytes: u64);

    /// All bytes were handed to the connection. Can be called a second time, when the end of the body is seen.
    fn completed(&mut self);

    /// The body ended with an error.
    fn failed(&mut self, error: &E);
}

/// A body with its observer. Both are dropped together: if the client leaves, that is before the end.
#[derive(Debug)]
pub struct ObservedBody<B, O> {
    body: B,
    observer: O,
    /// Bytes that are still to come, if the head of the response says how many. Once all of them have passed, the
    /// connection stops polling the body, and so never sees its end.
    remaining: Option<u64>,
    /// The span of the request, which ends before its body does.
    span: Span,
}

impl<B, O> ObservedBody<B, O> {
    /// Observes a body of `remaining` bytes, or of an unknown number of bytes. What body and observer log belongs to
    /// the current span.
    pub fn new(body: B, observer: O, remaining: Option<u64>) -> Self {
        Self { body, observer, remaining, span: Span::current() }
    }
}

impl<B, O> Body for ObservedBody<B, O>
where
    B: Body + Unpin,
    O: BodyObserver<B::Error> + Unpin,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = &mut *self;
        let _entered = this.span.enter();
        let polled = Pin::new(&mut this.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining) as u64;
                this.observer.passed(bytes);
                if let Some(remaining) = &mut this.remaining {
                    *remaining = remaining.saturating_sub(bytes);
                    if *remaining == 0 {
                        this.observer.completed();
                    }
                }
            }
            Poll::Ready(Some(Err(error))) => this.observer.failed(error),
            Poll::Ready(None) => this.observer.completed(),
            Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, io, sync::Arc};

    use bytes::Bytes;
    use http_body_util::BodyExt;
    use parking_lot::Mutex;

    use super::*;

    /// A body of these frames.
    struct Frames(VecDeque<io::Result<&'static [u8]>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = io::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
            Poll::Ready(
                self.0.pop_front().map(|frame| frame.map(|bytes| Frame::data(Bytes::from_static(bytes)))),
            )
        }
    }

    /// Collects what it gets.
    #[derive(Clone, Default)]
    struct Notes(Arc<Mutex<Vec<String>>>);

    impl BodyObserver<io::Error> for Notes {
        fn passed(&mut self, bytes: u64) {
            self.0.lock().push(format!("passed {bytes}"));
        }

        fn completed(&mut self) {
            self.0.lock().push("completed".to_owned());
        }

        fn failed(&mut self, error: &io::Error) {
            self.0.lock().push(format!("failed: {error}"));
        }
    }

    fn observed(
        frames: impl IntoIterator<Item = io::Result<&'static [u8]>>,
        remaining: Option<u64>,
    ) -> (ObservedBody<Frames, Notes>, Notes) {
        let notes = Notes::default();
        (ObservedBody::new(Frames(frames.into_iter().collect()), notes.clone(), remaining), notes)
    }

    #[tokio::test]
    async fn the_last_byte_completes_a_body_of_known_length() {
        let (mut body, notes) = observed([Ok(&b"abc"[..]), Ok(b"de")], Some(5));
        body.frame().await.unwrap().unwrap();
        assert_eq!(*notes.0.lock(), ["passed 3"]);
        body.frame().await.unwrap().unwrap();
        assert_eq!(*notes.0.lock(), ["passed 3", "passed 2", "completed"]);
    }

    #[tokio::test]
    async fn the_end_completes_a_body_of_unknown_length_and_an_error_does_not() {
        let (body, notes) = observed([Ok(&b"abc"[..])], None);
        assert_eq!(body.collect().await.unwrap().to_bytes(), "abc");
        assert_eq!(*notes.0.lock(), ["passed 3", "completed"]);
        let (body, notes) = observed([Ok(&b"abc"[..]), Err(io::Error::other("cut"))], None);
        body.collect().await.unwrap_err();
        assert_eq!(*notes.0.lock(), ["passed 3", "failed: cut"]);
    }
}
