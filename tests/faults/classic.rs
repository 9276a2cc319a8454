//! The classic AudioVault, `audiovault-agent serve`, with unauthenticated clients at its port.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use harness::{
    client::client_at,
    matrix,
    process::{PATIENCE, Process},
    recordings::{CALL, one_recording},
    slow::idle,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::setting::ms;

const TOKEN: &str = "master-token-of-this-story";
/// As many as once made an operators' listener reset connections.
const IDLE: usize = 230;

/// The caller starts the server and must also stop it.
async fn serve(dir: &TempDir, more: &[&str]) -> (Process, SocketAddr) {
    let path = format!("file:{}", dir.path().display());
    let mut arguments = vec!["serve", "--bind-to", "127.0.0.1:0", "--token", TOKEN, "--path", &path];
    arguments.extend(more);
    let arguments: Vec<_> = arguments.into_iter().map(str::to_owned).collect();
    let agent = Process::start("audiovault-agent", &arguments, &[]);
    let line = agent.wait_for_code("listener.started").await;
    let address = line.split("address=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let address = address.parse().unwrap();
    (agent, address)
}

/// Whether the server closes the connection.
async fn is_ended(stream: &mut TcpStream, within: Duration) -> bool {
    timeout(within, stream.read_u8()).await.is_ok_and(|read| read.is_err())
}

/// The response to a request on a new connection from this address. The few connections above a limit that get a
/// response can be in use for a second; until then, the server closes new ones without a response.
async fn request_of(address: SocketAddr, from: IpAddr) -> String {
    let answered = async {
        loop {
            let mut stream = idle(address, from).await;
            let mut answer = String::new();
            let sent = stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await;
            if sent.is_ok() && stream.read_to_string(&mut answer).await.is_ok() && !answer.is_empty() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, answered).await.unwrap()
}

#[tokio::test]
async fn idle_connections_of_one_address_keep_no_other_address_out_of_serve() {
    let dir = one_recording();
    let (_agent, address) = serve(&dir, &["--max-connections", "200"]).await;
    let greedy = IpAddr::from([127, 0, 0, 66]);
    let mut kept = Vec::new();
    for _ in 0..IDLE {
        kept.push(idle(address, greedy).await);
    }
    let url = format!("http://{address}/search?token={TOKEN}&callid={CALL}");
    let asked = Instant::now();
    let other = client_at(67).get(&url).send().await.unwrap();
    let took = asked.elapsed();
    assert_eq!(other.status(), 200);
    let within = Duration::from_millis(500);
    let dropped = join_all(kept.iter_mut().map(|stream| is_ended(stream, within))).await;
    let dropped = dropped.into_iter().filter(|dropped| *dropped).count();
    assert!(dropped >= IDLE - 144, "{dropped} of {IDLE} were dropped");
    let answer = request_of(address, greedy).await;
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retry-after"), "{answer}");
    // Connections without a request are closed.
    let first = &mut kept[0];
    assert!(is_ended(first, Duration::from_secs(40)).await);
    matrix::row(
        "serve",
        &format!("{IDLE} idle connections from one address"),
        "other addresses are served; this one gets 429; connections without a request are closed",
        format!("{dropped} of {IDLE} closed at once, a search from another address took {}", ms(took)),
    );
}
