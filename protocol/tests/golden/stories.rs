//! The stories of the transcripts: one conversation for each kind of message exchange.

use std::time::{Duration, Instant};

use audiovault_protocol::{
    frame::StreamId,
    http::context::{Audit, Client},
    identity::signed_link::{LinkSecret, LinkSigner},
    limits::{INITIAL_WINDOW, RELAY_DEADLINE},
    message::{
        CloseCode, DriverStatus, Goaway, Hello, RequestHead, ResetCode, ResponseHead, Status, Welcome,
    },
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::{
    conversation::{Does, Turn},
    end::{Agent, Relay},
};

/// One conversation. All except the greeting begin where the greeting ends.
pub(crate) struct Story {
    /// Name of its file, without `.txt`.
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) turns: Vec<Turn>,
}

const GET_RECORDING: &str = "GET /recordings/AbCd/recording.wav";
const ETAG: &str = "\"4000-17b3c\"";
/// Bytes of a recording that fit into one DATA frame, however slow the link is.
const PIECE: usize = 4096;
const HEADER_LEN: usize = 44;
/// Number of pieces after which half of a first window is used up.
const HALF_A_WINDOW: usize = INITIAL_WINDOW as usize / 2 / PIECE;
/// Number of pieces of the whole recording.
const PIECES: usize = HALF_A_WINDOW + 4;

pub(crate) fn greeting() -> Story {
    Story {
        name: "greeting",
        about: "An agent dials, is welcomed, and reports the state of its recordings.",
        turns: vec![
            neither(
                0,
                "The agent has dialled. Its HELLO is the first frame; each side measures the way by a ping.",
            ),
            relay(10, "The relay accepts the agent.", |relay, _| relay.mux.welcome(welcome())),
            agent(20, "The agent sends its status.", |agent, _| agent.mux.set_status(status())),
        ],
    }
}

/// All conversations except the greeting.
pub(crate) fn stories() -> Vec<Story> {
    vec![search(), download(), range(), failures(), life(), relay_leaves(), agent_leaves()]
}

fn search() -> Story {
    Story {
        name: "search",
        about: "A search: a request with a body, and a small answer at once.",
        turns: vec![
            relay(1_000, "QueueMetrics asks which recordings belong to a call.", |relay, now| {
                let json = Bytes::from_static(br#"{"callid":"1711444502.17"}"#);
                ask(relay, "POST /search", &[(header::CONTENT_TYPE, "application/json")], json, now);
            }),
            agent(1_040, "The agent has found one.", |agent, _| {
                let audit = Audit {
                    call_id: Some("1711444502.17".to_owned()),
                    tenant: Some("sales".to_owned()),
                    user: Some("demo".to_owned()),
                    found: Some(1),
                    ..Audit::default()
                };
                let types = [(header::CONTENT_TYPE, "application/json")];
                respond(agent, 1, 200, &types, Some(audit));
                send(agent, Bytes::from_static(br#"{"complete":true,"recordings":[]}"#));
                agent.mux.finish(id(1));
            }),
        ],
    }
}

fn download() -> Story {
    Story {
        name: "download",
        about: "A recording as a whole: its body as far as credit lasts, credit, and its end.",
        turns: vec![
            relay(1_000, "A browser asks for a recording.", |relay, now| {
                ask(relay, GET_RECORDING, &[(header::ACCEPT, "audio/*")], Bytes::new(), now);
            }),
            agent(
                1_040,
                "The agent reads; the listener takes half a window, and the relay returns it.",
                |agent, _| {
                    let len = (HEADER_LEN + PIECES * PIECE).to_string();
                    let headers = [
                        (header::ACCEPT_RANGES, "bytes"),
                        (header::CONTENT_LENGTH, len.as_str()),
                        (header::CONTENT_TYPE, "audio/wav"),
                        (header::ETAG, ETAG),
                    ];
                    let recording = Some("q-800-XXXX67-20240326-101502-1711444502.17.wav".to_owned());
                    let audit = Audit { recording, bytes_per_second: Some(8000), ..Audit::default() };
                    respond(agent, 1, 200, &headers, Some(audit));
                    send(agent, wav_header());
                    (0..HALF_A_WINDOW).for_each(|_| send(agent, silence()));
                },
            ),
            agent(1_080, "The agent has read to the end.", |agent, _| {
                (HALF_A_WINDOW..PIECES).for_each(|_| send(agent, silence()));
                agent.mux.finish(id(1));
            }),
        ],
    }
}

fn range() -> Story {
    Story {
        name: "range",
        about: "A listener jumps and leaves; what was under way then is ignored. Another has the recording already.",
        turns: vec![
            relay(1_000, "A listener has jumped to a marker.", |relay, now| {
                let headers = [(header::RANGE, "bytes=32812-"), (header::IF_RANGE, ETAG)];
                ask(relay, GET_RECORDING, &headers, Bytes::new(), now);
            }),
            agent(1_040, "The agent begins there.", |agent, _| {
                let headers = [
                    (header::CONTENT_LENGTH, "114688"),
                    (header::CONTENT_RANGE, "bytes 32812-147499/147500"),
                    (header::CONTENT_TYPE, "audio/wav"),
                    (header::ETAG, ETAG),
                ];
                respond(agent, 1, 206, &headers, None);
                send(agent, silence());
            }),
            crossing(
                1_060,
                "The listener leaves while the agent sends on.",
                |relay, _| relay.mux.release(id(1)),
                |agent, _| send(agent, silence()),
            ),
            relay(1_080, "Another browser asks whether what it has is still right.", |relay, now| {
                let headers = [(header::IF_NONE_MATCH, ETAG)];
                ask(relay, GET_RECORDING, &headers, Bytes::new(), now);
            }),
            agent(1_120, "It is: an answer without a body.", |agent, _| {
                respond(agent, 2, 304, &[(header::ETAG, ETAG)], None);
                agent.mux.finish(id(2));
            }),
        ],
    }
}

fn failures() -> Story {
    Story {
        name: "failures",
        about: "Streams that are given up: by the agent, and by the relay when its patience ends.",
        turns: vec![
            relay(1_000, "Two requests; the second is no HTTP.", |relay, now| {
                ask(relay, GET_RECORDING, &[], Bytes::new(), now);
                ask(relay, "GET /nothing of this kind", &[], Bytes::new(), now);
            }),
            agent(
                1_040,
                "The disk fails in the middle of the first; the second is not understood.",
                |agent, _| {
                    respond(agent, 1, 200, &[(header::CONTENT_TYPE, "audio/wav")], None);
                    send(agent, wav_header());
                    agent.mux.reset(id(2), ResetCode::Malformed, "the request is not valid HTTP");
                },
            ),
            agent(1_060, "That is all there is to read.", |agent, _| {
                agent.mux.reset(id(1), ResetCode::ReadFailed, "the disk is gone");
            }),
            relay(1_100, "Two more requests.", |relay, now| {
                ask(relay, GET_RECORDING, &[], Bytes::new(), now);
                ask(relay, GET_RECORDING, &[], Bytes::new(), now);
            }),
            agent(1_140, "One of them is answered, but nothing follows.", |agent, _| {
                respond(agent, 4, 200, &[(header::CONTENT_TYPE, "audio/wav")], None);
            }),
            neither(16_100, "The other was not answered for 15 s."),
            neither(31_140, "What was answered has made no progress for 30 s."),
        ],
    }
}

fn life() -> Story {
    Story {
        name: "life",
        about: "Pings and their answers: every 15 s, and every 2 s while something is under way.",
        turns: vec![
            neither(15_000, "Nothing was said for a while."),
            relay(16_000, "A request that takes its time.", |relay, now| {
                ask(relay, "GET /search?callid=1711444502.17", &[], Bytes::new(), now);
            }),
            neither(17_000, "Two seconds after the last ping."),
            agent(18_500, "There is no such recording.", |agent, _| {
                respond(agent, 1, 404, &[(header::CONTENT_TYPE, "application/problem+json")], None);
                agent.mux.finish(id(1));
            }),
            neither(19_000, "The tunnel counts as busy for a minute."),
        ],
    }
}

fn relay_leaves() -> Story {
    Story {
        name: "relay-leaves",
        about: "A relay goes: the agent is to dial again, what is open finishes, and the relay closes.",
        turns: vec![
            relay(1_000, "A browser asks for a recording.", |relay, now| {
                ask(relay, GET_RECORDING, &[], Bytes::new(), now);
            }),
            agent(1_040, "The agent sends the beginning.", |agent, _| {
                respond(agent, 1, 200, &[(header::CONTENT_TYPE, "audio/wav")], None);
                send(agent, wav_header());
            }),
            relay(1_060, "The relay is to be restarted.", |relay, _| relay.mux.go_away(goaway([500, 5_000]))),
            agent(1_080, "The recording is read to its end.", |agent, _| {
                send(agent, silence());
                agent.mux.finish(id(1));
            }),
            relay(1_100, "Nothing is open any more.", |relay, _| {
                relay.close(CloseCode::GoingAway, "maintenance");
            }),
        ],
    }
}

fn agent_leaves() -> Story {
    Story {
        name: "agent-leaves",
        about: "An agent goes: a request that crossed its GOAWAY is refused, what is open finishes, and the relay closes.",
        turns: vec![
            relay(1_000, "A browser asks for a recording.", |relay, now| {
                ask(relay, GET_RECORDING, &[], Bytes::new(), now);
            }),
            agent(1_040, "The agent sends the beginning.", |agent, _| {
                respond(agent, 1, 200, &[(header::CONTENT_TYPE, "audio/wav")], None);
                send(agent, wav_header());
            }),
            crossing(
                1_060,
                "The agent is shut down while another browser asks.",
                |relay, now| ask(relay, GET_RECORDING, &[], Bytes::new(), now),
                |agent, _| agent.mux.go_away(goaway([0, 0])),
            ),
            neither(1_080, "The agent takes no more requests."),
            agent(1_100, "The first recording is read to its end.", |agent, _| {
                send(agent, silence());
                agent.mux.finish(id(1));
            }),
            relay(1_120, "Nothing is open any more.", |relay, _| relay.close(CloseCode::Normal, "goodbye")),
        ],
    }
}

fn neither(at_ms: u64, text: &'static str) -> Turn {
    Turn { at: Duration::from_millis(at_ms), text, relay: None, agent: None, crossing: false }
}

fn relay(at_ms: u64, text: &'static str, does: Does<Relay>) -> Turn {
    Turn { relay: Some(does), ..neither(at_ms, text) }
}

fn agent(at_ms: u64, text: &'static str, does: Does<Agent>) -> Turn {
    Turn { agent: Some(does), ..neither(at_ms, text) }
}

fn crossing(at_ms: u64, text: &'static str, relay: Does<Relay>, agent: Does<Agent>) -> Turn {
    Turn { relay: Some(relay), agent: Some(agent), crossing: true, ..neither(at_ms, text) }
}

fn id(number: u32) -> StreamId {
    StreamId::new(number).unwrap()
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
}

/// Sends a request. `line` is the method and the target.
fn ask(relay: &mut Relay, line: &str, pairs: &[(HeaderName, &str)], body: Bytes, now: Instant) {
    let (method, target) = line.split_once(' ').unwrap();
    let head = RequestHead {
        request_id: "01HS7Q3M".to_owned(),
        method: method.to_owned(),
        target: target.to_owned(),
        headers: headers(pairs),
        deadline_ms: 12_000,
        client: Client { address: Some("192.0.2.7".to_owned()), user_agent: Some("Safari".to_owned()) },
    };
    relay.mux.open(head, body, RELAY_DEADLINE, now).unwrap();
}

fn respond(agent: &mut Agent, stream: u32, status: u16, pairs: &[(HeaderName, &str)], audit: Option<Audit>) {
    agent.mux.respond(id(stream), ResponseHead { status, headers: headers(pairs), audit });
}

/// Sends a piece of the first body. The queue has room for everything that a story sends.
fn send(agent: &mut Agent, piece: Bytes) {
    assert!(agent.mux.send(id(1), piece));
}

/// The first bytes of a WAV file with µ-law sound.
fn wav_header() -> Bytes {
    let mut header = [0; HEADER_LEN];
    header[..16].copy_from_slice(b"RIFF\x24\x40\x02\x00WAVEfmt ");
    header[16..24].copy_from_slice(b"\x10\0\0\0\x07\0\x01\0");
    header[36..].copy_from_slice(b"data\x00\x40\x02\x00");
    Bytes::copy_from_slice(&header)
}

fn silence() -> Bytes {
    Bytes::from_static(&[0xff; PIECE])
}

fn goaway(reconnect_after_ms: [u64; 2]) -> Goaway {
    Goaway { reason: "maintenance".to_owned(), reconnect_after_ms }
}

pub(crate) fn hello() -> Hello {
    Hello {
        agent_version: "0.1.0".to_owned(),
        instance: "00112233445566aa".to_owned(),
        slot: 1,
        link_key_id: LinkSigner::new(&LinkSecret::from_bytes([1; 32])).key_id(),
        host: "pbx".to_owned(),
        os: "linux x86_64".to_owned(),
        started_at: 1_711_444_000,
        tenants: vec!["sales".to_owned(), "support".to_owned()],
        max_streams: 256,
        drains: true,
        token_fields: Vec::new(),
    }
}

fn welcome() -> Welcome {
    Welcome {
        relay_version: "0.1.0".to_owned(),
        session: "s1".to_owned(),
        base_url: "https://relay.example/acme-madrid".to_owned(),
        initial_window: INITIAL_WINDOW,
        max_streams: 256,
        ping_after_ms: 15_000,
        dead_after_ms: 45_000,
    }
}

fn status() -> Status {
    let counted = DriverStatus {
        pattern: "file:/var/spool/asterisk/monitor/%YY/%MM/%DD".to_owned(),
        readable: true,
        problem: None,
        recordings: Some(1_204_113),
        newest: Some(1_711_444_502),
    };
    let missing = DriverStatus {
        pattern: "file:/mnt/nas".to_owned(),
        problem: Some("not found".to_owned()),
        ..DriverStatus::default()
    };
    Status { drivers: vec![counted, missing], problems: Vec::new() }
}
