//! Peers that write frames themselves and break any rule: a hostile agent and a hostile relay, over plain WebSockets.

use std::net::{IpAddr, SocketAddr};

use audiovault_protocol::{
    frame::{Frame, StreamId},
    identity::signed_link::{LinkSecret, LinkSigner},
    message::{Hello, SUBPROTOCOL, Welcome},
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async, client_async,
    tungstenite::{
        Message,
        client::IntoClientRequest,
        handshake::server::{ErrorResponse, Request, Response},
    },
};

use crate::{
    process::PATIENCE,
    relay::{Relay, Site},
};

/// One end of a tunnel, controlled by the test.
#[derive(Debug)]
pub struct RawPeer {
    /// The WebSocket, without the size limits of an agent or a relay.
    pub socket: WebSocketStream<TcpStream>,
}

/// How the other side closed the tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// The code of its WebSocket close message.
    pub code: u16,
    /// The reason in that message.
    pub reason: String,
}

impl RawPeer {
    /// A tunnel to a relay over plain HTTP, upgraded with the key of a site. No frame has been sent yet.
    pub async fn agent(relay: &Relay, site: &Site) -> Self {
        Self::try_agent(relay.address, site).await.expect("the relay upgrades")
    }

    /// Like [`RawPeer::agent`]; `None` if the relay does not upgrade.
    pub async fn try_agent(relay: SocketAddr, site: &Site) -> Option<Self> {
        let stream = TcpStream::connect(relay).await.ok()?;
        Self::upgrade(site, relay, stream).await
    }

    /// Like [`RawPeer::agent`], from this address of the machine.
    pub async fn agent_from(source: IpAddr, relay: &Relay, site: &Site) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind((source, 0).into()).expect("an address of this machine");
        let stream = socket.connect(relay.address).await.expect("the relay listens");
        Self::upgrade(site, relay.address, stream).await.expect("the relay upgrades")
    }

    async fn upgrade(site: &Site, relay: SocketAddr, stream: TcpStream) -> Option<Self> {
        let mut request = format!("ws://{relay}/tunnel").into_client_request().expect("a request");
        let headers = request.headers_mut();
        let bearer = format!("Bearer {}", site.site_key);
        headers.insert("authorization", bearer.parse().expect("a header"));
        headers.insert("sec-websocket-protocol", SUBPROTOCOL.parse().expect("a header"));
        let (socket, _) = client_async(request, stream).await.ok()?;
        Some(Self { socket })
    }

    /// A tunnel to a relay after the greeting of an agent.
    pub async fn greeted_agent(relay: &Relay, site: &Site) -> Self {
        Self::greeted_as(relay, site, hello()).await
    }

    /// A tunnel to a relay after the greeting with this HELLO.
    pub async fn greeted_as(relay: &Relay, site: &Site, hello: Hello) -> Self {
        let mut peer = Self::agent(relay, site).await;
        peer.frame(Frame::Hello(Box::new(hello))).await;
        peer.wait_for(|frame| matches!(frame, Frame::Welcome(_)).then_some(())).await;
        peer
    }

    /// Sends a frame.
    pub async fn frame(&mut self, frame: Frame) {
        self.bytes(frame.encode()).await;
    }

    /// Sends a binary message.
    pub async fn bytes(&mut self, bytes: impl Into<Bytes>) {
        self.message(Message::Binary(bytes.into())).await;
    }

    /// Sends any message. An error is ignored: that the other side has closed the tunnel shows elsewhere.
    pub async fn message(&mut self, message: Message) {
        let _ = self.socket.send(message).await;
    }

    /// Waits for a frame in which `find` finds something.
    pub async fn wait_for<T>(&mut self, find: impl Fn(&Frame) -> Option<T>) -> T {
        let found = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Binary(bytes))) => {
                        let frame = Frame::decode(bytes).expect("an honest side sends frames");
                        if let Some(found) = find(&frame) {
                            return found;
                        }
                    }
                    Some(Ok(_)) => {}
                    end => panic!("the tunnel ended: {end:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the frame comes")
    }

    /// Waits until the other side closes the tunnel.
    pub async fn closed(&mut self) -> Closed {
        let closed = async {
            loop {
                match self.socket.next().await {
                    Some(Ok(Message::Close(Some(frame)))) => {
                        // This peer is hostile, not slow: the other side should not have to wait for the response.
                        let _ = self.socket.flush().await;
                        let _ = self.socket.get_mut().shutdown().await;
                        return Closed { code: frame.code.into(), reason: frame.reason.to_string() };
                    }
                    Some(Ok(_)) => {}
                    end => panic!("the tunnel ended without a word: {end:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("the other side closes")
    }
}

/// A stream id. The number is not 0.
pub fn id(number: u32) -> StreamId {
    StreamId::new(number).expect("a stream")
}

/// The bytes of a valid or invalid frame, from its type, its stream and its payload.
pub fn bytes(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    [&[kind][..], &stream.to_be_bytes(), payload].concat()
}

/// A HELLO that is valid in every respect.
pub fn hello() -> Hello {
    Hello {
        agent_version: "0.0.0".to_owned(),
        instance: "00112233445566aa".to_owned(),
        slot: 0,
        link_key_id: LinkSigner::new(&LinkSecret::from_bytes([1; 32])).key_id(),
        host: "hostile".to_owned(),
        os: String::new(),
        started_at: 0,
        tenants: Vec::new(),
        max_streams: 256,
        drains: false,
        token_fields: Vec::new(),
    }
}

/// A relay that accepts any key.
#[derive(Debug)]
pub struct RawRelay {
    listener: TcpListener,
    /// The address on which it listens.
    pub address: SocketAddr,
}

impl RawRelay {
    /// A relay that listens.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        Self { listener, address }
    }

    /// The value of the agents' `--relay`.
    pub fn url(&self) -> String {
        format!("ws://{}", self.address)
    }

    /// Accepts the next agent and upgrades its connection. No frame has been sent yet.
    pub async fn accept(&self) -> RawPeer {
        let accepted = tokio::time::timeout(PATIENCE, self.listener.accept());
        let (stream, _) = accepted.await.expect("the agent dials").expect("a connection");
        #[expect(clippy::result_large_err, reason = "so the library wants it")]
        let choose = |_: &Request, mut response: Response| -> Result<Response, ErrorResponse> {
            let chosen = SUBPROTOCOL.parse().expect("a header");
            response.headers_mut().insert("sec-websocket-protocol", chosen);
            Ok(response)
        };
        let socket = accept_hdr_async(stream, choose).await.expect("the agent upgrades");
        RawPeer { socket }
    }

    /// Accepts the next agent and sends it a WELCOME.
    pub async fn welcome(&self) -> RawPeer {
        let mut peer = self.accept().await;
        peer.wait_for(|frame| matches!(frame, Frame::Hello(_)).then_some(())).await;
        peer.frame(Frame::Welcome(Box::new(welcome(&self.address.to_string())))).await;
        peer
    }
}

/// A WELCOME that is valid in every respect.
pub fn welcome(host: &str) -> Welcome {
    Welcome {
        relay_version: "0.0.0".to_owned(),
        session: "s".to_owned(),
        base_url: format!("http://{host}/acme"),
        initial_window: 262_144,
        max_streams: 256,
        ping_after_ms: 15_000,
        dead_after_ms: 45_000,
    }
}
