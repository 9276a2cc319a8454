//! Tests of two links over an in-memory connection whose buffer is too small on purpose.

#![expect(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

mod farewell;
mod patience;
mod slow;

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget},
    frame::Frame,
    http::context::{Audit, Client, RequestContext},
    limits::{DEAD_AFTER, INITIAL_WINDOW, MAX_WAITING_CALLS, RELAY_DEADLINE, TUNNEL_WINDOW_BUDGET},
    link::{
        AgentAnswer, AgentControl, AgentLink, Answered, Buffered, CallError, Caller, Close, Counted, Ended,
        LinkState, RelayLink, RelayNotice, Role, Socket, Traffic,
    },
    message::{CloseCode, Goaway, ResetCode},
    mux::{OpenError, Violation},
    testing::pair::{get, hello, welcome},
};
use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame as BodyFrame};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream},
    sync::mpsc,
    task::JoinHandle,
    time::Instant,
};
use tokio_tungstenite::WebSocketStream;

use self::slow::Slow;

type Answer = AgentAnswer<BoxBody<Bytes, String>>;

/// A body of this many bytes in chunks of 100,000, which may fail or stall at its end.
struct TestBody {
    left: usize,
    end: End,
    /// Dropped with the body: shows the test that the agent stopped.
    _alive: mpsc::Sender<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum End {
    Complete,
    Fails,
    Stalls,
}

impl Body for TestBody {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, String>>> {
        let len = self.left.min(100_000);
        self.left -= len;
        match (len, self.end) {
            (0, End::Complete) => Poll::Ready(None),
            (0, End::Fails) => Poll::Ready(Some(Err("the disk is gone".to_owned()))),
            (0, End::Stalls) => Poll::Pending,
            _ => Poll::Ready(Some(Ok(BodyFrame::data(vec![7; len].into())))),
        }
    }
}

/// The agent's service: `/hello` answers with what was requested, `/bytes/N/END` sends a body, `/never` never answers.
async fn answer(context: RequestContext, request: Request<Bytes>, alive: mpsc::Sender<()>) -> Answer {
    let mut parts = request.uri().path().split('/').skip(1);
    let response = match parts.next() {
        Some("bytes") => {
            let left = parts.next().unwrap().parse().unwrap();
            let end = match parts.next() {
                Some("fails") => End::Fails,
                Some("stalls") => End::Stalls,
                _ => End::Complete,
            };
            Response::new(TestBody { left, end, _alive: alive }.boxed())
        }
        Some("never") => {
            let _alive = alive;
            std::future::pending().await
        }
        _ => {
            let text = format!(
                "{} {} {} {} {:?}",
                request.method(),
                request.uri(),
                context.id,
                context.base,
                context.client.address,
            );
            let body =
                Full::new([text.as_bytes(), request.body()].concat().into()).map_err(|never| match never {});
            let response = Response::builder().status(203).header("etag", "\"1\"").header("x-own", "1");
            let response = response.body(body.boxed()).unwrap();
            let audit = Some(Audit { found: Some(3), ..Audit::default() });
            return AgentAnswer { response, audit, revocation: None };
        }
    };
    AgentAnswer::new(response)
}

struct Tunnel {
    caller: Caller,
    control: AgentControl,
    relay: JoinHandle<Ended>,
    agent: JoinHandle<Ended>,
    budgets: Budgets,
    notices: mpsc::UnboundedReceiver<RelayNotice>,
    /// Yields `None` when no work of the agent's service is running any more.
    alive: mpsc::Receiver<()>,
}

fn socket<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    role: Role,
    traffic: &Arc<Traffic>,
) -> Socket<Counted<Buffered<S>>> {
    Socket::new(Counted::new(Buffered::new(stream), Arc::clone(traffic)), role, Bytes::new())
}

async fn tunnel() -> Tunnel {
    let (near, far) = tokio::io::duplex(1000);
    tunnel_over(near, far).await
}

async fn tunnel_over<S>(near: S, far: DuplexStream) -> Tunnel
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let budgets =
        Budgets { tunnel: WindowBudget::new(TUNNEL_WINDOW_BUDGET), process: WindowBudget::new(u64::MAX) };
    let (alive_sender, alive) = mpsc::channel(1);
    let service = move |context, request| answer(context, request, alive_sender.clone());
    let (agent_link, control) = AgentLink::new(hello(256), service);
    let agent_traffic = Arc::new(Traffic::default());
    let agent_socket = socket(far, Role::Client, &agent_traffic);
    let agent = tokio::spawn(agent_link.run(agent_socket, agent_traffic));

    let relay_traffic = Arc::new(Traffic::default());
    let (notify, mut notices) = mpsc::unbounded_channel();
    let notify = move |notice| drop(notify.send(notice));
    let (relay_link, caller) = RelayLink::new(budgets.clone(), Arc::clone(&relay_traffic), notify);
    let relay_socket = socket(near, Role::Server, &relay_traffic);
    let relay = tokio::spawn(relay_link.run(relay_socket, relay_traffic));

    assert!(matches!(notices.recv().await, Some(RelayNotice::Hello(_))));
    caller.welcome(welcome());
    control.state().wait_for(|state| matches!(state, LinkState::Welcomed(_))).await.unwrap();
    Tunnel { caller, control, relay, agent, budgets, notices, alive }
}

fn goaway() -> Goaway {
    Goaway { reason: "maintenance".to_owned(), reconnect_after_ms: [0, 1000] }
}

#[tokio::test]
async fn a_request_crosses_with_its_context_and_its_answer_with_its_audit() {
    let tunnel = tunnel().await;
    let mut request = get("/hello?a=b");
    request.head.request_id = "r7".to_owned();
    request.head.method = "POST".to_owned();
    request.head.headers.insert("cookie", "secret".parse().unwrap());
    request.head.client = Client { address: Some("192.0.2.1".to_owned()), user_agent: None };
    request.body = Bytes::from_static(b"!");
    let Answered { response, audit } = tunnel.caller.call(request).await.unwrap();
    assert_eq!(response.status(), 203);
    assert_eq!(response.headers().len(), 1, "only allowed headers cross");
    assert_eq!(audit.unwrap().found, Some(3));
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let expected = r#"POST /hello?a=b r7 https://relay.example/acme Some("192.0.2.1")!"#;
    assert_eq!(String::from_utf8_lossy(&body), expected);
}

#[tokio::test]
async fn many_bodies_cross_at_once() {
    let tunnel = tunnel().await;
    let sizes = [0, 1, 99_999, 100_000, 3_000_000];
    let calls = sizes.map(|size| {
        let caller = tunnel.caller.clone();
        tokio::spawn(async move {
            let response = caller.call(get(&format!("/bytes/{size}"))).await.unwrap().response;
            response.into_body().collect().await.unwrap().to_bytes().len()
        })
    });
    for (call, size) in calls.into_iter().zip(sizes) {
        assert_eq!(call.await.unwrap(), size);
    }
}

#[tokio::test]
async fn a_paused_listener_does_not_delay_others_and_can_continue() {
    let tunnel = tunnel().await;
    let paused = tunnel.caller.call(get("/bytes/2000000")).await.unwrap().response;
    for _ in 0..20 {
        let response = tunnel.caller.call(get("/bytes/100000")).await.unwrap().response;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 100_000);
    }
    assert_eq!(paused.into_body().collect().await.unwrap().to_bytes().len(), 2_000_000);
}

#[tokio::test(start_paused = true)]
async fn a_small_answer_waits_behind_little_of_a_download_on_a_slow_link() {
    let (near, far) = tokio::io::duplex(1000);
    let tunnel = tunnel_over(Slow::new(near, 250), far).await;
    let mut download = tunnel.caller.call(get("/bytes/10000000")).await.unwrap().response.into_body();
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let received = async { while let Some(Ok(_)) = download.frame().await {} };
        assert!(tokio::time::timeout(Duration::from_millis(73), received).await.is_err());
        #[expect(clippy::disallowed_methods, reason = "the story times an answer")]
        let begun = Instant::now();
        tunnel.caller.call(get("/hello")).await.unwrap().response.into_body().collect().await.unwrap();
        slowest = slowest.max(begun.elapsed());
    }
    // Two of the shortest frames, which take 17 ms each, and the bytes that the connection itself holds.
    assert!(slowest < Duration::from_millis(45), "{slowest:?}");
}

#[tokio::test]
async fn a_listener_who_leaves_stops_the_agent_and_gives_everything_back() {
    let mut tunnel = tunnel().await;
    let mut body = tunnel.caller.call(get("/bytes/1000000000")).await.unwrap().response.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    // The response to another request shows that the RESET has arrived, because frames keep their order.
    tunnel.caller.call(get("/hello")).await.unwrap();
    tunnel.control.close(Close::new(CloseCode::Normal, "done"));
    tunnel.agent.await.unwrap();
    assert_eq!(tunnel.alive.recv().await, None);
    tunnel.relay.await.unwrap();
    assert_eq!((tunnel.budgets.tunnel.used(), tunnel.budgets.process.used()), (0, 0));
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_stops_the_agent() {
    let tunnel = tunnel().await;
    let caller = tunnel.caller.clone();
    let call = tokio::spawn(async move { caller.call(get("/never")).await.map(drop) });
    let mut window = tunnel.budgets.tunnel.used();
    while window == 0 {
        tokio::task::yield_now().await;
        window = tunnel.budgets.tunnel.used();
    }
    assert_eq!(window, u64::from(INITIAL_WINDOW));
    call.abort();
    while tunnel.budgets.tunnel.used() != 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_failing_body_is_cut_and_never_complete() {
    let tunnel = tunnel().await;
    let response = tunnel.caller.call(get("/bytes/1000000/fails")).await.unwrap().response;
    let error = response.into_body().collect().await.unwrap_err();
    assert!(error.to_string().contains("the disk is gone"), "{error}");
}

#[tokio::test]
async fn a_lost_tunnel_cuts_bodies_and_fails_calls() {
    let tunnel = tunnel().await;
    let mut body = tunnel.caller.call(get("/bytes/300000/stalls")).await.unwrap().response.into_body();
    body.frame().await.unwrap().unwrap();
    let caller = tunnel.caller.clone();
    let unanswered = tokio::spawn(async move { caller.call(get("/never")).await.map(drop) });
    tunnel.caller.call(get("/hello")).await.unwrap();
    tunnel.agent.abort();
    assert!(body.collect().await.is_err());
    assert_eq!(unanswered.await.unwrap(), Err(CallError::Lost));
    assert!(matches!(tunnel.relay.await.unwrap(), Ended::Broken(_)));
    let late = tunnel.caller.call(get("/hello")).await.map(drop);
    assert_eq!(late, Err(CallError::NotOpened(OpenError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_does_not_answer_meets_the_deadline() {
    let tunnel = tunnel().await;
    let almost = RELAY_DEADLINE - Duration::from_millis(1);
    let mut call = std::pin::pin!(tunnel.caller.call(get("/never")));
    assert!(tokio::time::timeout(almost, &mut call).await.is_err(), "the agent may take its time");
    assert_eq!(call.await.map(drop), Err(CallError::Deadline));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_is_given_up() {
    let tunnel = tunnel().await;
    let response = tunnel.caller.call(get("/bytes/1000/stalls")).await.unwrap().response;
    let error = response.into_body().collect().await.unwrap_err();
    assert!(matches!(error, audiovault_protocol::link::BodyError::Reset(ResetCode::Stalled, _)));
}

#[tokio::test(start_paused = true)]
async fn idle_tunnels_live_and_silent_ones_end() {
    let tunnel = tunnel().await;
    tokio::time::sleep(10 * DEAD_AFTER).await;
    assert!(tunnel.caller.rtt().is_some() && tunnel.control.rtt().is_some());
    tunnel.caller.call(get("/hello")).await.unwrap();

    // The connection stays open while the other side neither reads nor writes.
    let (near, _far) = tokio::io::duplex(1000);
    let traffic = Arc::new(Traffic::default());
    let service = |context, request| answer(context, request, mpsc::channel(1).0);
    let (link, _control) = AgentLink::new(hello(1), service);
    let ended = link.run(socket(near, Role::Client, &traffic), traffic).await;
    assert!(matches!(ended, Ended::Violation(Violation::NoGreeting)));
}

#[tokio::test]
async fn a_relay_that_leaves_lets_downloads_finish_and_then_closes() {
    let tunnel = tunnel().await;
    let response = tunnel.caller.call(get("/bytes/2000000")).await.unwrap().response;
    tunnel.caller.go_away(goaway());
    tunnel.control.state().wait_for(|state| matches!(state, LinkState::Leaving(_))).await.unwrap();
    let refused = tunnel.caller.call(get("/hello")).await.map(drop);
    assert_eq!(refused, Err(CallError::NotOpened(OpenError::Closed)));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 2_000_000);
    let Ended::ByPeer(close) = tunnel.agent.await.unwrap() else { panic!("the relay closes") };
    assert_eq!(close, Close::new(CloseCode::GoingAway, "maintenance"));
}

#[tokio::test]
async fn an_idle_agent_learns_when_to_dial_again_before_the_relay_closes() {
    let tunnel = tunnel().await;
    tunnel.caller.go_away(goaway());
    assert!(matches!(tunnel.agent.await.unwrap(), Ended::ByPeer(_)));
    assert_eq!(*tunnel.control.state().borrow(), LinkState::Leaving(goaway()));
}

#[tokio::test]
async fn an_agent_that_leaves_lets_downloads_finish_and_the_relay_closes() {
    let mut tunnel = tunnel().await;
    let response = tunnel.caller.call(get("/bytes/2000000")).await.unwrap().response;
    tunnel.control.go_away(goaway());
    assert_eq!(tunnel.notices.recv().await, Some(RelayNotice::Goaway(goaway())));
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes().len(), 2_000_000);
    assert!(matches!(tunnel.relay.await.unwrap(), Ended::ByUs(Close { code: CloseCode::Normal, .. })));
    assert!(matches!(tunnel.agent.await.unwrap(), Ended::ByPeer(_)));
}

#[tokio::test]
async fn callers_do_not_pile_up_before_a_driver_that_does_not_run() {
    let budgets = Budgets { tunnel: WindowBudget::new(u64::MAX), process: WindowBudget::new(u64::MAX) };
    let (_idle, caller) = RelayLink::new(budgets, Arc::default(), drop);
    let mut waiting: Vec<_> = (0..MAX_WAITING_CALLS).map(|_| Box::pin(caller.call(get("/hello")))).collect();
    for call in &mut waiting {
        assert!(futures_util::poll!(call).is_pending());
    }
    let surplus = caller.call(get("/hello")).await.map(drop);
    assert_eq!(surplus, Err(CallError::NotOpened(OpenError::TooManyStreams)));
}

#[tokio::test]
async fn what_came_behind_the_upgrade_is_read_first() {
    let budgets = Budgets { tunnel: WindowBudget::new(u64::MAX), process: WindowBudget::new(u64::MAX) };
    let (near, _far) = tokio::io::duplex(1000);
    let traffic = Arc::new(Traffic::default());
    let (notify, mut notices) = mpsc::unbounded_channel();
    let notify = move |notice| drop(notify.send(notice));
    let (link, _caller) = RelayLink::new(budgets, Arc::clone(&traffic), notify);
    let frame = Frame::Hello(Box::new(hello(1))).encode();
    let len = u16::try_from(frame.len()).unwrap().to_be_bytes();
    // The head of a binary message, masked with zeros (RFC 6455, section 5.2).
    let early = [&[0x82, 0xfe][..], &len, &[0; 4], &frame].concat();
    let stream = Counted::new(Buffered::new(near), Arc::clone(&traffic));
    let _relay = tokio::spawn(link.run(Socket::new(stream, Role::Server, early.into()), traffic));
    assert_eq!(notices.recv().await, Some(RelayNotice::Hello(Box::new(hello(1)))));
}

#[tokio::test]
async fn a_broken_agent_gets_the_reason_why_its_tunnel_ends() {
    use futures_util::{SinkExt, StreamExt};
    use tokio_tungstenite::tungstenite::{self, Message};

    let budgets = Budgets { tunnel: WindowBudget::new(u64::MAX), process: WindowBudget::new(u64::MAX) };
    let (near, far) = tokio::io::duplex(1000);
    let traffic = Arc::new(Traffic::default());
    let (link, _caller) = RelayLink::new(budgets, Arc::clone(&traffic), drop);
    let relay = tokio::spawn(link.run(socket(near, Role::Server, &traffic), traffic));
    let mut agent = WebSocketStream::from_raw_socket(far, tungstenite::protocol::Role::Client, None).await;
    agent.send(Message::Binary(Bytes::from_static(&[0x13, 0, 0, 0, 1]))).await.unwrap();
    let close = loop {
        if let Message::Close(close) = agent.next().await.unwrap().unwrap() {
            break close.unwrap();
        }
    };
    assert_eq!(
        (u16::from(close.code), close.reason.as_str()),
        (4000, "received a END frame before the greeting")
    );
    drop(agent);
    assert!(matches!(relay.await.unwrap(), Ended::Violation(Violation::NotGreeted("END"))));
}
