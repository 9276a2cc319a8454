//! The agent's HTTP service: it works slowly, hangs and fails as planned.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use super::World;
use crate::{
    limits::SEND_QUEUE_LEN,
    testing::{
        pair::body,
        simulation::{Finding, calls::mark, plan::CallPlan},
    },
};

/// Counts one request as running until it is dropped.
#[derive(Debug)]
struct Alive(Arc<World>);

impl Alive {
    fn new(world: &Arc<World>) -> Self {
        world.state().alive += 1;
        Self(Arc::clone(world))
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.state().alive -= 1;
    }
}

/// The body of a response, as it is read from a disk.
#[derive(Debug)]
pub(super) struct Recording {
    call: usize,
    plan: CallPlan,
    offset: u64,
    hung: bool,
    waits: Option<Pin<Box<Sleep>>>,
    _alive: Alive,
}

/// Answers `/CALL/PART/FIRST-BYTE`.
pub(super) async fn answer(
    world: Arc<World>,
    request: Request<Bytes>,
) -> Result<Response<Recording>, Infallible> {
    let alive = Alive::new(&world);
    let mut numbers =
        request.uri().path().split('/').skip(1).map(|number| number.parse().unwrap_or(u64::MAX));
    let [call, part, offset] = [(); 3].map(|()| numbers.next().unwrap_or(u64::MAX));
    let call = usize::try_from(call).unwrap_or(usize::MAX);
    let plan = world.plan(call).unwrap_or_else(|| CallPlan::random(&mut super::Chance::new(0)));
    if world.serves(call, part) > 2 {
        world.find(Finding::new("a call was served more often than twice"));
    }
    if request.body().len() != plan.asks || request.body().iter().any(|byte| *byte != b'q') {
        world.find(Finding::new("a request came with another body"));
    }
    wait(plan.thinks).await;
    Ok(Response::new(Recording { call, plan, offset, hung: false, waits: None, _alive: alive }))
}

/// Waits. If `time` is zero, it does not even yield.
pub(super) async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}

impl Recording {
    fn rest(&mut self, time: Duration) {
        self.waits = (!time.is_zero()).then(|| Box::pin(sleep(time)));
    }
}

impl Body for Recording {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        loop {
            if let Some(waits) = &mut self.waits {
                ready!(waits.as_mut().poll(cx));
                self.waits = None;
            }
            if self.plan.fails_at.is_some_and(|at| self.offset >= at) {
                return Poll::Ready(Some(Err("the disk is gone".to_owned())));
            }
            if self.offset == self.plan.bytes {
                return Poll::Ready(None);
            }
            if let Some((at, time)) = self.plan.hangs
                && self.offset >= at
                && !std::mem::replace(&mut self.hung, true)
            {
                self.rest(time);
                continue;
            }
            let chunk = self.plan.chunk.min(SEND_QUEUE_LEN as u64);
            let end = self.plan.bytes.min(self.offset + chunk);
            let bytes = body(mark(self.call), self.offset..end);
            self.offset = end;
            let reads = self.plan.reads;
            self.rest(reads);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
    }
}
