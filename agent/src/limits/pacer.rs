//! Delays what downloads send, so that all together stay below a rate.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::{Instant, Sleep, sleep_until};

use super::schedule::Schedule;

/// How much may be sent at once after a pause: enough for a player to begin, too little to disturb a call.
const BURST: Duration = Duration::from_millis(250);
/// How much is sent in one piece, with limits in bytes. Downloads take turns, one piece at a time.
const PIECE: Duration = Duration::from_millis(50);
const MIN_PIECE: u64 = 1024;
const MAX_PIECE: u64 = 32 * 1024;

/// Gives downloads their turns. All downloads of an agent share one.
#[derive(Debug)]
pub struct Pacer {
    schedule: Schedule,
    /// When the uplink will have sent everything that was released.
    free: Mutex<Instant>,
}

impl Pacer {
    /// A pacer that has sent nothing yet.
    pub fn new(schedule: Schedule) -> Arc<Self> {
        Arc::new(Self { schedule, free: Mutex::new(Instant::now()) })
    }

    /// How many of `bytes` bytes may be sent, and when. `None` if no rate applies now.
    fn turn(&self, bytes: usize, wall: Timestamp) -> Option<(usize, Instant)> {
        let rate = self.schedule.at(wall)?;
        let piece = rate.bytes_in(PIECE).clamp(MIN_PIECE, MAX_PIECE);
        let bytes = bytes.min(usize::try_from(piece).unwrap_or(usize::MAX));
        let mut free = self.free.lock();
        let now = Instant::now();
        let begin = now.checked_sub(BURST).map_or(*free, |earliest| earliest.max(*free));
        *free = begin + rate.time_for(bytes as u64);
        Some((bytes, (*free).max(now)))
    }
}

/// A body that waits for its turns.
#[derive(Debug)]
pub struct Paced<B> {
    body: B,
    pacer: Option<Arc<Pacer>>,
    /// Bytes that the body returned and that may not be sent yet.
    waiting: Bytes,
    /// How many bytes are sent next, and when.
    turn: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<B> Paced<B> {
    /// Wraps a body; without a pacer it does not wait.
    pub fn new(body: B, pacer: Option<Arc<Pacer>>) -> Self {
        Self { body, pacer, waiting: Bytes::new(), turn: None }
    }

    /// The next piece of the waiting bytes, once it is its turn.
    fn poll_piece(&mut self, pacer: &Pacer, context: &mut Context<'_>) -> Poll<Bytes> {
        if self.turn.is_none() {
            match pacer.turn(self.waiting.len(), Timestamp::now()) {
                Some((bytes, at)) => self.turn = Some((bytes, Box::pin(sleep_until(at)))),
                None => return Poll::Ready(std::mem::take(&mut self.waiting)),
            }
        }
        let bytes = match &mut self.turn {
            Some((bytes, sleep)) => {
                ready!(sleep.as_mut().poll(context));
                *bytes
            }
            None => self.waiting.len(),
        };
        self.turn = None;
        Poll::Ready(self.waiting.split_to(bytes.min(self.waiting.len())))
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Paced<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let Some(pacer) = this.pacer.clone() else { return Pin::new(&mut this.body).poll_frame(context) };
        if this.waiting.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.waiting = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                other => return Poll::Ready(other),
            }
        }
        this.poll_piece(&pacer, context).map(|piece| Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.size_hint();
        let waiting = self.waiting.len() as u64;
        let mut both = SizeHint::new();
        both.set_lower(hint.lower() + waiting);
        if let Some(upper) = hint.upper() {
            both.set_upper(upper + waiting);
        }
        both
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use http_body_util::{BodyExt, Full};
    use jiff::tz::TimeZone;

    use super::*;

    fn pacer(rates: &[&str]) -> Arc<Pacer> {
        Pacer::new(Schedule::parse(rates.iter().copied(), TimeZone::UTC).unwrap())
    }

    fn body(len: usize, pacer: &Arc<Pacer>) -> Paced<Full<Bytes>> {
        Paced::new(Full::new(vec![7; len].into()), Some(Arc::clone(pacer)))
    }

    /// Sends the bodies and returns the number of bytes and the seconds that they took, on a clock that only waits.
    async fn send(bodies: Vec<Paced<Full<Bytes>>>) -> (usize, f64) {
        let began = Instant::now();
        let sent = join_all(bodies.into_iter().map(BodyExt::collect)).await;
        let bytes = sent.into_iter().map(|sent| sent.unwrap().to_bytes().len()).sum();
        (bytes, began.elapsed().as_secs_f64())
    }

    #[tokio::test(start_paused = true)]
    async fn downloads_together_stay_below_the_rate_and_use_it() {
        let pacer = pacer(&["2Mbit"]);
        let bodies = (0..5).map(|_| body(250_000, &pacer)).collect();
        let (bytes, seconds) = send(bodies).await;
        assert_eq!(bytes, 1_250_000);
        // Five seconds of uplink, less what a burst may send at once.
        assert!((4.7..5.1).contains(&seconds), "{seconds} s");
        let (_, seconds) = send(vec![body(25_000, &pacer)]).await;
        assert!(seconds < 0.2, "a short pause earns no more than a burst: {seconds} s");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_limited_does_not_wait() {
        let bodies = |pacer: &Arc<Pacer>| vec![body(1_000_000, pacer)];
        assert!(send(bodies(&pacer(&[]))).await.1 < 0.001);
        let unpaced = Paced::new(Full::new(Bytes::from(vec![7; 1_000_000])), None);
        assert!(send(vec![unpaced]).await.1 < 0.001);
    }

    #[tokio::test(start_paused = true)]
    async fn the_remaining_size_is_exact_to_the_end() {
        let pacer = pacer(&["1Mbit"]);
        let mut body = body(10_000, &pacer);
        let mut left = 10_000;
        while let Some(frame) = body.frame().await {
            left -= frame.unwrap().into_data().unwrap().len() as u64;
            assert_eq!(body.size_hint().exact(), Some(left));
            assert_eq!(body.is_end_stream(), left == 0);
        }
        assert_eq!(left, 0);
    }
}
