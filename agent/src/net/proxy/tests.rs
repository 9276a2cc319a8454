use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::*;

fn proxy(text: &str) -> Proxy {
    Proxy::parse(&Secret::new(text)).unwrap()
}

fn target() -> Target {
    Target::of(&Url::parse("wss://relay.example").unwrap()).unwrap()
}

/// Sends a request to a proxy that replies `answer` to the first bytes. Also returns those bytes, and the proxy's end
/// of the stream.
async fn asked(proxy: &str, answer: &'static [u8]) -> (Result<Stream, ProxyError>, String, DuplexStream) {
    let (ours, mut theirs) = tokio::io::duplex(4096);
    let proxy = self::proxy(proxy);
    let target = target();
    let heard = async {
        let mut heard = vec![0; 4096];
        let len = theirs.read(&mut heard).await.unwrap();
        theirs.write_all(answer).await.unwrap();
        heard.truncate(len);
        String::from_utf8_lossy(&heard).into_owned()
    };
    let (passed, heard) = tokio::join!(proxy.pass(Box::new(ours), &target, None), heard);
    (passed, heard, theirs)
}

async fn refusal(proxy: &str, answer: &'static [u8]) -> ProxyError {
    asked(proxy, answer).await.0.unwrap_err()
}

#[tokio::test]
async fn a_connect_request_has_the_target_and_who_asks_and_then_the_line_is_free() {
    let answer = b"HTTP/1.0 200 Connection established\r\nVia: p\r\n\r\n";
    let (passed, request, mut theirs) = asked("http://maria:p%40ss@p", answer).await;
    let mut stream = passed.unwrap();
    assert!(request.starts_with("CONNECT relay.example:443 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: relay.example:443\r\n"), "{request}");
    assert!(request.contains("proxy-authorization: Basic bWFyaWE6cEBzcw==\r\n"), "{request}");
    theirs.write_all(b"hello").await.unwrap();
    let mut said = [0; 5];
    stream.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello");
}

#[tokio::test]
async fn an_http_proxys_refusals_are_told_apart_with_its_own_words() {
    let answer =
        b"HTTP/1.1 407 Who are you?\r\nProxy-Authenticate: Basic realm=\"x\"\r\ncontent-length: 2\r\n\r\nno";
    let wanted = refusal("http://p", answer).await;
    assert!(
        matches!(&wanted, ProxyError::CredentialsWanted(words) if words == "407 Who are you?"),
        "{wanted:?}"
    );
    let refused = refusal("http://maria:s3cr3t@p", answer).await;
    assert!(matches!(&refused, ProxyError::CredentialsRefused(words) if words == "407 Who are you?"));
    let tinyproxy = refusal("http://maria:s3cr3t@p", b"HTTP/1.0 401 Unauthorized\r\n\r\n").await;
    assert!(matches!(&tinyproxy, ProxyError::CredentialsRefused(words) if words == "401 Unauthorized"));
    let ntlm = b"HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\nProxy-Authenticate: Negotiate\r\n\r\n";
    let unspoken = refusal("http://maria:s3cr3t@p", ntlm).await;
    assert!(matches!(&unspoken, ProxyError::Unspoken(schemes) if schemes == "NTLM or Negotiate"));
    assert!([wanted, refused, unspoken].iter().all(ProxyError::needs_change));
    let forbidden = refusal("http://p", b"HTTP/1.1 403 Filtered\r\ncontent-length: 0\r\n\r\n").await;
    assert!(forbidden.to_string().contains("relay.example:443 (403 Filtered)"), "{forbidden}");
    let gateway = refusal("http://p", b"HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    assert!(matches!(&gateway, ProxyError::Unreachable(_, words) if words == "502 Bad Gateway"));
    assert!(!forbidden.needs_change() && !gateway.needs_change());
}

#[tokio::test]
async fn what_is_no_proxy_is_told_so() {
    for (proxy, answer) in [
        ("http://p", &b"SSH-2.0-OpenSSH_9.2\r\n\r\n"[..]),
        ("http://p", b"HTTP/1.1 200 OK\r\n\r\nand more"),
        ("socks5h://p", b"HTTP/1.1 400 Bad Request\r\n\r\n"),
    ] {
        let error = refusal(proxy, answer).await;
        assert!(matches!(error, ProxyError::NotAProxy(_)), "{error:?}");
    }
}

#[tokio::test]
async fn a_socks_proxys_refusals_are_told_apart() {
    let method = refusal("socks5h://p", b"\x05\xff").await;
    assert!(matches!(method, ProxyError::CredentialsWanted(_)), "{method:?}");
    let password = refusal("socks5h://maria:s3cr3t@p", b"\x05\x02\x01\x01").await;
    assert!(matches!(password, ProxyError::CredentialsRefused(_)), "{password:?}");
    let rules = refusal("socks5h://p", b"\x05\x00\x05\x02\x00\x01\0\0\0\0\0\0").await;
    assert!(matches!(rules, ProxyError::Forbidden(..)), "{rules:?}");
    let closed = refusal("socks5h://p", b"\x05\x00\x05\x05\x00\x01\0\0\0\0\0\0").await;
    assert!(closed.to_string().contains("relay.example:443 (SOCKS: connection refused)"), "{closed}");
    assert!(password.needs_change() && !closed.needs_change());
}

#[test]
fn neither_address_nor_debug_shows_a_password() {
    let proxy = proxy("socks5://maria:s3cr3t@proxy.example");
    let shown = format!("{proxy} {proxy:?}");
    assert!(shown.starts_with("socks5://proxy.example:1080 "), "{shown}");
    assert!(!shown.contains("maria") && !shown.contains("s3cr3t"), "{shown}");
}
