//! One call from outside: sends the request, takes the body, and checks what should come and when.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body::Body;

use super::{Watched, World, agent::wait, now};
use crate::{
    limits::{RELAY_DEADLINE, STALL_TIMEOUT},
    link::{BodyError, CallError, TunnelBody},
    message::{AgentRequest, ResetCode},
    testing::{
        pair::{body, get},
        simulation::{
            Finding,
            calls::{CallPlan, Outcome, mark},
        },
    },
};

/// How long a cut body waits for another tunnel.
const RETURN_WINDOW: Duration = Duration::from_secs(60);
/// How much the resolution of the clock may add to a time.
const GRAIN: Duration = Duration::from_millis(10);

/// Runs one call to its end.
pub(super) async fn call(world: Arc<World>, number: usize, plan: CallPlan) {
    let _watched = Watched(Arc::clone(&world));
    let listener = Listener { world: &world, number, plan: &plan, received: 0, behind: Duration::ZERO };
    let outcome = match plan.leaves {
        None => listener.listen().await,
        Some(after) => tokio::time::timeout(after, listener.listen()).await.unwrap_or(Ok(Outcome::Left)),
    };
    match outcome {
        Ok(outcome) => world.settle(number, outcome),
        Err(finding) => world.find(finding),
    }
}

struct Listener<'a> {
    world: &'a Arc<World>,
    number: usize,
    plan: &'a CallPlan,
    received: u64,
    /// The longest time by which the listener, because it pauses, may learn of an event too late.
    behind: Duration,
}

impl Listener<'_> {
    async fn listen(mut self) -> Result<Outcome, Finding> {
        for part in 0.. {
            let began = now();
            let patience = RELAY_DEADLINE;
            let for_tunnel = RELAY_DEADLINE * 2 / 3;
            let wait_until = began + if part > 0 { RETURN_WINDOW } else { for_tunnel };
            let deadline = if part > 0 { wait_until + patience } else { began + patience };
            let path = format!("/{}/{part}/{}", self.number, self.received);
            let request = AgentRequest { body: Bytes::from(vec![b'q'; self.plan.asks]), ..get(&path) };
            let stepped = self.world.stepped();
            let asked = self.world.ask(&request, deadline, wait_until).await;
            let late = now() > deadline + GRAIN + (self.world.stepped() - stepped);
            if late {
                return Err(Finding::new("a call was answered past its deadline"));
            }
            let cut = if part > 0 { Outcome::Cut } else { Outcome::NotOpened };
            let Some(asked) = asked else { return Ok(cut) };
            let answered = match asked {
                Ok(answered) => answered,
                Err(CallError::Deadline) if now() < deadline && part == 0 => {
                    return Err(Finding::new("a call was given up before its deadline"));
                }
                Err(CallError::Reset(ResetCode::ReadFailed, _)) if self.plan.fails_at.is_none() => {
                    return Err(Finding::new("a disk failed that did not"));
                }
                Err(CallError::NotOpened(_)) => return Ok(cut),
                Err(CallError::Reset(code, _)) => return Ok(Outcome::Reset(code)),
                Err(CallError::Deadline) => return Ok(Outcome::Reset(ResetCode::DeadlineExceeded)),
                Err(CallError::Refused | CallError::Lost) => return Ok(Outcome::Cut),
                Err(error @ (CallError::TooLarge | CallError::Malformed)) => {
                    return Err(Finding::of("a call came to nothing", error));
                }
            };
            if let Some(outcome) = self.take(answered.response.into_body()).await? {
                return Ok(outcome);
            }
        }
        Ok(Outcome::Cut)
    }

    /// Takes a body, or a part of it. Returns `None` if the rest is to be requested.
    async fn take(&mut self, body_of_call: TunnelBody) -> Result<Option<Outcome>, Finding> {
        let mut body_of_call = pin!(body_of_call);
        loop {
            let since = now();
            let stepped = self.world.stepped();
            let frame = poll_fn(|cx| body_of_call.as_mut().poll_frame(cx)).await;
            if now() > since + STALL_TIMEOUT + GRAIN + (self.world.stepped() - stepped) {
                return Err(Finding::of("a listener hung", format!("{:?}", now() - since)));
            }
            let chunk = match frame {
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
                Some(Err(BodyError::Lost)) if self.plan.continues => return Ok(None),
                Some(Err(BodyError::Lost | BodyError::Changed)) => return Ok(Some(Outcome::Cut)),
                Some(Err(BodyError::Reset(code, _))) => return self.given_up(code),
                None if self.received == self.plan.bytes && self.plan.fails_at.is_none() => {
                    return Ok(Some(Outcome::Complete));
                }
                None => return Err(Finding::new("a body was complete that is not")),
            };
            let end = self.received + chunk.len() as u64;
            if end > self.plan.bytes || chunk != body(mark(self.number), self.received..end) {
                return Err(Finding::new("wrong bytes were delivered"));
            }
            self.received = end;
            if !self.world.is_calm() {
                self.behind += self.plan.rests;
                wait(self.plan.rests).await;
            }
        }
    }

    fn given_up(&self, code: ResetCode) -> Result<Option<Outcome>, Finding> {
        let right = match code {
            ResetCode::ReadFailed => self.plan.fails_at.is_some(),
            ResetCode::Stalled => self.plan.may_stall() || self.world.is_excused(self.behind),
            ResetCode::Cancelled
            | ResetCode::DeadlineExceeded
            | ResetCode::Refused
            | ResetCode::Malformed
            | ResetCode::Other(_) => false,
        };
        let what =
            || Finding::of("a stream was given up without need", format!("{code:?}, call {}", self.number));
        if right { Ok(Some(Outcome::Reset(code))) } else { Err(what()) }
    }
}
