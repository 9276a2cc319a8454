//! The operators' listener: clients that fill it, and foreign pages that point their own host names at it.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use harness::{matrix, process::run, relay::Relay};
use reqwest::{Client, StatusCode, header::HOST};
use tokio::net::{TcpSocket, TcpStream};

use crate::setting::ms;

/// The address that connects and sends nothing.
const GREEDY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 66));
/// Its connections: more than the listener accepts.
const IDLE: usize = 230;
/// Time in which the greedy address itself must get health: one connection becomes free every second.
const OWN_HEALTH_WITHIN: Duration = Duration::from_secs(4);

fn admin(relay: &Relay) -> SocketAddr {
    relay.admin_url().trim_start_matches("http://").parse().unwrap()
}

fn client_at(ip: IpAddr) -> Client {
    Client::builder().local_address(ip).pool_max_idle_per_host(0).build().unwrap()
}

async fn connect(to: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind((GREEDY, 0).into()).unwrap();
    socket.connect(to).await.ok()
}

#[tokio::test]
async fn idle_connections_of_one_address_do_not_keep_operators_and_health_checks_out() {
    let relay = Relay::start().await;
    let admin = admin(&relay);
    let kept = join_all((0..IDLE).map(|_| connect(admin))).await;
    let begun = Instant::now();
    let other = client_at(IpAddr::from([127, 0, 0, 67]));
    for page in ["readyz", "healthz", "login"] {
        let answer = other.get(format!("http://{admin}/{page}")).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{page}");
    }
    let others = begun.elapsed();
    let own = client_at(GREEDY);
    let health = async {
        loop {
            // A connection over the limit is reset; the next one is accepted as soon as there is room.
            match own.get(format!("http://{admin}/readyz")).send().await {
                Ok(answer) => return answer.status(),
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let health = tokio::time::timeout(OWN_HEALTH_WITHIN, health).await.expect("a response from health");
    assert_eq!(health, StatusCode::OK);
    let measured =
        format!("other addresses after {}, its own address after {}", ms(others), ms(begun.elapsed()));
    drop(kept);
    let promise = "other addresses get pages and health at once, its own address gets health within 4 s";
    matrix::row(
        "admission",
        "230 idle connections from one address to the operators' listener",
        promise,
        measured,
    );
}

#[tokio::test]
async fn a_page_elsewhere_cannot_point_its_own_name_at_the_operators_side() {
    let relay = Relay::start_with(&["--admin-host", "admin.example.test"], false).await;
    let admin = admin(&relay);
    let client = Client::new();
    let status = async |host: &str, path: &str| {
        let request = client.get(format!("http://{admin}/{path}")).header(HOST, host);
        request.send().await.unwrap().status().as_u16()
    };
    let mut refused = 0;
    for path in ["login", "metrics", "api/v1/sites", ""] {
        assert_eq!(status("evil.example.test", path).await, 421, "{path}");
        refused += 1;
        // Through an SSH tunnel, by address, and by its own host name.
        for host in ["localhost:8090", "127.0.0.1:1", "admin.example.test"] {
            assert_ne!(status(host, path).await, 421, "{host} {path}");
        }
    }
    assert_eq!(status("evil.example.test", "readyz").await, 200, "a health check by any host name");
    let promise = "421 for a foreign host name; localhost and --admin-host get the pages";
    matrix::row("trust", "DNS rebinding", promise, format!("{refused} of {refused} refused"));
}

#[tokio::test]
async fn operators_are_not_served_in_the_clear_where_others_could_listen() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("relay.db").display());
    let arguments = ["serve", "--public-url", "http://localhost:8080", "--database", &database];
    let listen = ["--bind", "127.0.0.1:0", "--admin-bind", "0.0.0.0:0"];
    let (code, _, err) = run("audiovault-relay", &[&arguments[..], &listen].concat(), &[]).await;
    assert_eq!(code, 2, "{err}");
    assert!(err.contains("--admin-tls-cert") && err.contains("--admin-allow-plaintext"), "{err}");
    let _permitted =
        Relay::start_with(&["--admin-bind", "0.0.0.0:0", "--admin-allow-plaintext"], false).await;
}
