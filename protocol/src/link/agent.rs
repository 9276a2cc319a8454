//! The agent's end of a tunnel, as an application sees it: it calls the application's HTTP service.

use std::{
    collections::BTreeMap,
    fmt::{self, Display},
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use http::{Request, Response};
use http_body::Body;
use tokio::{sync::watch, task::AbortHandle};

use super::{
    Close, Ended, Socket, Traffic, Transport,
    driver::{Endpoint, drive},
    mailbox::{AgentMailbox, Command, Gate, Outlet},
};
use crate::{
    frame::{Frame, StreamId},
    http::context::{Audit, Lifeline, RequestContext},
    limits::AGENT_DEADLINE,
    message::{Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome},
    mux::{AgentEvent, AgentMux, PingPayload, Violation},
};

/// How far a tunnel has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkState {
    /// HELLO was sent.
    Greeting,
    /// The relay accepted the agent.
    Welcomed(Arc<Welcome>),
    /// The relay is about to leave: dial again within the window; open streams finish here.
    Leaving(Goaway),
}

/// A handle on the agent's end of one tunnel. Cheap to clone.
#[derive(Clone)]
pub struct AgentControl {
    mailbox: Arc<AgentMailbox>,
    state: watch::Receiver<LinkState>,
}

impl fmt::Debug for AgentControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentControl").field("state", &self.state).finish_non_exhaustive()
    }
}

impl AgentControl {
    /// Follows the state of the tunnel.
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.clone()
    }

    /// Follows whether the relay is silent when something should have been received from it: the path to it may be
    /// dead.
    pub fn silence(&self) -> watch::Receiver<bool> {
        self.mailbox.gauges.silence()
    }

    /// Announces that this agent will go away. The relay closes the tunnel when the open streams have finished.
    pub fn go_away(&self, goaway: Goaway) {
        self.mailbox.leave(|outbox| outbox.goaway = Some(goaway));
    }

    /// Closes the tunnel now; open streams are cut.
    pub fn close(&self, close: Close) {
        self.mailbox.leave(|outbox| outbox.close = Some(close));
    }

    /// Reports the state of the recordings to the relay.
    pub fn set_status(&self, status: Status) {
        self.mailbox.leave(|outbox| outbox.status = Some(status));
    }

    /// Number of open streams.
    pub fn open_streams(&self) -> usize {
        self.mailbox.gauges.open_streams()
    }

    /// The latest round trip, if one was measured yet.
    pub fn rtt(&self) -> Option<Duration> {
        self.mailbox.gauges.rtt()
    }
}

/// Completes when a response is revoked. As a part of an [`AgentAnswer`], it makes the link reset the stream at once, even
/// while the client pauses and no more of the body is requested. Bytes that were already sent cannot be taken
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

/// Answers the requests that come through tunnels: the agent's HTTP service.
pub trait Respond: Clone + Send + Sync + 'static {
    /// The body of a response.
    type Body: Body<Data = Bytes, Error: Display> + Send + 'static;

    /// Answers one request. Dropping the future at any moment stops the work.
    fn respond(
        &self,
        context: RequestContext,
        request: Request<Bytes>,
    ) -> impl Future<Output = AgentAnswer<Self::Body>> + Send;
}

impl<F, R, B> Respond for F
where
    F: Fn(RequestContext, Request<Bytes>) -> R + Clone + Send + Sync + 'static,
    R: Future<Output = AgentAnswer<B>> + Send,
    B: Body<Data = Bytes, Error: Display> + Send + 'static,
{
    type Body = B;

    fn respond(
        &self,
        context: RequestContext,
        request: Request<Bytes>,
    ) -> impl Future<Output = AgentAnswer<B>> + Send {
        self(context, request)
    }
}

/// The response of an agent's service, with what belongs to it beside HTTP.
#[derive(Debug)]
pub struct AgentAnswer<B> {
    /// What the client may get of it.
    pub response: Response<B>,
    /// What the audit logs should say.
    pub audit: Option<Audit>,
    /// Ends the response early.
    pub revocation: Option<Revocation>,
}

impl<B> AgentAnswer<B> {
    /// A response of which nothing else is known.
    pub fn new(response: Response<B>) -> Self {
        Self { response, audit: None, revocation: None }
    }
}

struct Worker {
    gate: Arc<Gate>,
    lifeline: Lifeline,
    task: AbortHandle,
}

/// The agent's end of one tunnel, to be run by its own task.
pub struct AgentLink<S> {
    mux: AgentMux,
    mailbox: Arc<AgentMailbox>,
    service: S,
    workers: BTreeMap<StreamId, Worker>,
    base: Arc<str>,
    state: watch::Sender<LinkState>,
    close: Option<Close>,
}

impl<S> fmt::Debug for AgentLink<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AgentLink").field("mux", &self.mux).finish_non_exhaustive()
    }
}

impl<S: Respond> AgentLink<S> {
    /// The end of a tunnel that was just dialled, and a handle on it.
    pub fn new(hello: Hello, service: S) -> (Self, AgentControl) {
        let mailbox = Arc::new(AgentMailbox::default());
        let (sender, state) = watch::channel(LinkState::Greeting);
        #[expect(clippy::disallowed_methods, reason = "a tunnel begins now")]
        let now = tokio::time::Instant::now().into_std();
        let link = Self {
            mux: AgentMux::new(hello, now),
            mailbox: Arc::clone(&mailbox),
            service,
            workers: BTreeMap::new(),
            base: "".into(),
            state: sender,
            close: None,
        };
        (link, AgentControl { mailbox, state })
    }

    /// Runs the tunnel to its end. Requests that are still running are stopped then.
    pub async fn run<T>(mut self, socket: Socket<T>, traffic: Arc<Traffic>) -> Ended
    where
        T: Transport,
    {
        drive(&mut self, socket, traffic).await
    }

    fn start(&mut self, stream: StreamId, mut head: RequestHead, body: Bytes) {
        let gate = Arc::new(Gate::default());
        let outlet = Outlet::new(stream, Arc::clone(&self.mailbox), Arc::clone(&gate));
        let lifeline = Lifeline::default();
        let context = RequestContext {
            id: std::mem::take(&mut head.request_id),
            client: std::mem::take(&mut head.client),
            base: Arc::clone(&self.base),
            deadline: Duration::from_millis(head.deadline_ms.into()).min(AGENT_DEADLINE),
            lifeline: lifeline.clone(),
        };
        let Some(request) = head.into_request(body) else {
            outlet.reset(ResetCode::Malformed, "the request is not valid HTTP".to_owned());
            return;
        };
        let task = tokio::spawn(answer(self.service.clone(), context, request, outlet)).abort_handle();
        self.workers.insert(stream, Worker { gate, lifeline, task });
    }

    fn on_event(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Welcome(welcome) => {
                self.base = welcome.base_url.as_str().into();
                self.state.send_replace(LinkState::Welcomed(welcome.into()));
            }
            AgentEvent::Goaway(goaway) => {
                self.state.send_replace(LinkState::Leaving(goaway));
            }
            AgentEvent::Request(stream, head, body) => self.start(stream, *head, body),
            AgentEvent::Writable(stream) => {
                if let Some(worker) = self.workers.get(&stream) {
                    worker.gate.open();
                }
            }
            AgentEvent::Reset(stream, code) => self.stop(stream, code),
        }
    }

    fn take_mail(&mut self) {
        let mail = self.mailbox.take();
        for command in mail.commands {
            match command {
                Command::Respond(stream, head) => self.mux.respond(stream, head),
                Command::Send(stream, chunk) => {
                    let room = self.mux.send(stream, chunk);
                    if let Some(worker) = self.workers.get(&stream).filter(|_| room) {
                        worker.gate.open();
                    }
                }
                Command::Finish(stream) => {
                    self.workers.remove(&stream);
                    self.mux.finish(stream);
                }
                Command::Reset(stream, code, reason) => {
                    self.workers.remove(&stream);
                    self.mux.reset(stream, code, &reason);
                }
            }
        }
        if let Some(status) = mail.status {
            self.mux.set_status(status);
        }
        if let Some(goaway) = mail.goaway {
            self.mux.go_away(goaway);
        }
        self.close = self.close.take().or(mail.close);
    }
}

impl<S> AgentLink<S> {
    fn stop(&mut self, stream: StreamId, code: ResetCode) {
        if let Some(worker) = self.workers.remove(&stream) {
            if code != ResetCode::Cancelled {
                worker.lifeline.cut();
            }
            worker.task.abort();
        }
    }

    fn stop_all(&mut self) {
        for (_, worker) in std::mem::take(&mut self.workers) {
            worker.lifeline.cut();
            worker.task.abort();
        }
    }
}

impl<S> Drop for AgentLink<S> {
    fn drop(&mut self) {
        self.stop_all();
    }
}

impl<S: Respond> Endpoint for AgentLink<S> {
    fn handle_frame(&mut self, frame: Frame, now: Instant) -> Result<(), Violation> {
        self.mux.handle_frame(frame, now)
    }

    fn handle_inbound(&mut self, now: Instant) {
        self.mux.handle_inbound(now);
    }

    fn handle_pong(&mut self, payload: &[u8], now: Instant) {
        self.mux.handle_pong(payload, now);
        self.mailbox.gauges.set_rtt(self.mux.rtt());
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), Violation> {
        self.mux.handle_timeout(now)
    }

    fn work(&mut self, _now: Instant) {
        while let Some(event) = self.mux.poll_event() {
            self.on_event(event);
        }
        self.take_mail();
        self.mailbox.gauges.set_open_streams(self.mux.open_streams());
        self.mailbox.gauges.set_silent(self.mux.is_silent());
    }

    fn poll_timeout(&self, may_send: bool) -> Instant {
        self.mux.poll_timeout(may_send)
    }

    fn poll_ping(&mut self, now: Instant) -> Option<PingPayload> {
        self.mux.poll_ping(now)
    }

    fn burst(&self) -> usize {
        self.mux.burst()
    }

    fn unsent(&self) -> Option<usize> {
        Some(self.mux.unsent())
    }

    fn poll_transmit(&mut self, now: Instant) -> Option<Frame> {
        let frame = self.mux.poll_transmit(now);
        while let Some(event) = self.mux.poll_event() {
            self.on_event(event);
        }
        // The last frame of an answer ends its stream.
        self.mailbox.gauges.set_open_streams(self.mux.open_streams());
        frame
    }

    fn register(&self, waker: &Waker) {
        self.mailbox.waker.register(waker);
    }

    fn poll_close(&mut self) -> Option<Close> {
        self.close.take()
    }

    fn give_up(&mut self) {
        self.stop_all();
    }
}

/// Answers one request. Dropping the future at any moment stops the work.
async fn answer<S: Respond>(service: S, context: RequestContext, request: Request<Bytes>, outlet: Outlet) {
    let AgentAnswer { response, audit, revocation } = service.respond(context, request).await;
    let (parts, body) = response.into_parts();
    outlet.respond(ResponseHead { status: parts.status.as_u16(), headers: parts.headers, audit });
    let ended = match revocation {
        None => pass_on(body, &outlet).await,
        Some(revocation) => tokio::select! {
            biased;
            () = revocation => Err("the response was taken back".to_owned()),
            ended = pass_on(body, &outlet) => ended,
        },
    };
    match ended {
        Ok(()) => outlet.finish(),
        Err(reason) => outlet.reset(ResetCode::ReadFailed, reason),
    }
}

/// Sends a body to its end. If the body fails, returns what is wrong.
async fn pass_on<B>(body: B, outlet: &Outlet) -> Result<(), String>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Display,
{
    let mut body = pin!(body);
    loop {
        let chunk = match poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
            None => return Ok(()),
            Some(Err(error)) => return Err(error.to_string()),
            // Trailers do not cross the tunnel, and empty chunks carry nothing.
            Some(Ok(frame)) => frame.into_data().ok().filter(|chunk| !chunk.is_empty()),
        };
        if let Some(chunk) = chunk {
            outlet.send(chunk).await;
        }
    }
}
