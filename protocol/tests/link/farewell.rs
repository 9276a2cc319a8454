//! Tests of last messages: they arrive even if other data is in flight.

use std::sync::Arc;

use audiovault_protocol::{
    flow::credit::{Budgets, WindowBudget},
    link::{Ended, RelayLink, Role, Traffic},
};
use futures_util::StreamExt;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{self, Message},
};

use super::socket;

/// A relay's end of a tunnel over a real connection, and the connection to it. Only a real connection loses unread
/// bytes at its other end when it is closed.
async fn relay_on_tcp() -> (tokio::task::JoinHandle<Ended>, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (peer, accepted) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    let traffic = Arc::new(Traffic::default());
    let budgets = Budgets { tunnel: WindowBudget::new(0), process: WindowBudget::new(0) };
    let (link, _) = RelayLink::new(budgets, Arc::clone(&traffic), drop);
    let socket = socket(accepted.unwrap().0, Role::Server, &traffic);
    (tokio::spawn(link.run(socket, traffic)), peer.unwrap())
}

#[tokio::test]
async fn a_peer_that_sends_too_much_reads_why_although_it_was_still_sending() {
    let (relay, peer) = relay_on_tcp().await;
    let (reading, mut writing) = peer.into_split();
    let sending = async move {
        // The head of a binary message of 64 MiB, masked with zeros (RFC 6455, section 5.2).
        let head = [&[0x82, 0xff][..], &(64_u64 << 20).to_be_bytes(), &[0; 4]].concat();
        writing.write_all(&head).await.unwrap();
        for _ in 0..64 {
            writing
                .write_all(&[0; 1 << 16])
                .await
                .expect("the relay keeps the connection while the peer still sends");
        }
        writing.shutdown().await.unwrap();
    };
    let hearing = async move {
        let silent = tokio::io::join(reading, tokio::io::sink());
        let mut socket =
            WebSocketStream::from_raw_socket(silent, tungstenite::protocol::Role::Client, None).await;
        match socket.next().await {
            Some(Ok(Message::Close(Some(frame)))) => (u16::from(frame.code), frame.reason.to_string()),
            other => panic!("no last word: {other:?}"),
        }
    };
    let ((), (code, reason)) = tokio::join!(sending, hearing);
    assert_eq!(code, 1009, "{reason}");
    assert!(reason.contains("longer than"), "{reason}");
    assert!(matches!(relay.await.unwrap(), Ended::Violation(_)));
}
