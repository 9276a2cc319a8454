//! Every limit of the wire protocol and of the multiplexers, with the reason for its number.

use std::time::Duration;

/// Bytes before the payload of every frame: type (1) and stream id (4).
pub const FRAME_HEADER_LEN: usize = 5;

/// Longest JSON head of a REQUEST or RESPONSE, and longest JSON payload of the other frames, in bytes. The longest
/// target is a signed link ([`crate::identity::signed_link::MAX_TOKEN_LEN`], 9.7 kB). The allowed headers, escaped, fit into the
/// rest: the relay refuses a public request whose head would be longer.
pub const MAX_HEAD_LEN: usize = 32 * 1024;

/// Longest request body in bytes. A search has a few hundred; the public API promises to accept this many.
pub const MAX_REQUEST_BODY_LEN: usize = 64 * 1024;

/// Longest payload of a DATA frame in bytes: two TLS records. An agent sends shorter frames where a full one would take
/// long (see [`BURST_TIME`]).
pub const MAX_DATA_LEN: usize = 32 * 1024;

/// Payload of a full DATA frame as this implementation sends it, in bytes. With the 5 bytes of the frame header and the
/// 8 bytes of a masked WebSocket header it fills exactly two TLS records of 16 KiB.
pub const FULL_DATA_LEN: usize = 2 * 16 * 1024 - FRAME_HEADER_LEN - 8;

/// Longest body that this implementation sends in an ANSWER, in bytes: error texts, search results, and the few bytes
/// that a player requests first. For a longer body it is better to start sending than to wait for its end.
pub const ANSWER_BODY_LEN: usize = 16 * 1024;

/// Longest RESET reason in bytes: one sentence.
pub const MAX_REASON_LEN: usize = 256;

/// Longest WebSocket message that either side accepts, in bytes: a REQUEST with the longest head and body, its frame
/// header and the four bytes of the head's length. Every other frame is shorter.
pub const MAX_MESSAGE_LEN: usize = FRAME_HEADER_LEN + 4 + MAX_HEAD_LEN + MAX_REQUEST_BODY_LEN;

/// Most streams open at a time on one tunnel. The first windows of 256 streams are exactly half of
/// [`TUNNEL_WINDOW_BUDGET`], and windows never grow into that half. So there is always credit for a stream that may be
/// opened.
pub const MAX_STREAMS: usize = 256;

/// Most calls that wait for a tunnel's driver to open their streams. The driver empties the queue whenever it runs.
/// Twice the largest number of streams in the queue means that the driver does not run, and more callers would wait in
/// vain.
pub const MAX_WAITING_CALLS: usize = 2 * MAX_STREAMS;

/// Bytes of body that a relay lets a stream send before it returns any credit. At 100 Mbit/s this covers a round trip
/// of 20 ms; on longer paths the window grows (see [`MAX_WINDOW`]).
pub const INITIAL_WINDOW: u32 = 256 * 1024;

/// Largest window of a stream, in bytes: covers 200 Mbit/s at a round trip of 300 ms.
pub const MAX_WINDOW: u32 = 8 * 1024 * 1024;

/// Largest sum of the windows of one tunnel, in bytes: the most that one site can make the relay hold.
pub const TUNNEL_WINDOW_BUDGET: u64 = 2 * MAX_STREAMS as u64 * INITIAL_WINDOW as u64;

/// Largest sum of the windows of all tunnels of one relay process, in bytes, unless configured otherwise.
pub const PROCESS_WINDOW_BUDGET: u64 = 2 * 1024 * 1024 * 1024;

/// A DATA frame uses up at least this much credit, in bytes. A queued chunk costs the relay about this much besides its
/// content; otherwise a window of one-byte frames could cost a hundred times its bytes in bookkeeping.
pub const MIN_DATA_COST: u32 = 64;

/// A window is doubled when half of it is received and consumed within this many minimum round trips. Credit comes back
/// in halves, so half a window takes one round trip if the window is what limits the stream. The queues on the path may
/// double that, and bytes that TCP lost arrive one round trip later.
pub const WINDOW_GROWTH_RTTS: u32 = 3;
/// ...or within this time, if that is longer: round trips on a local network are too short to time. A window that is
/// taken within a millisecond is at most what a small answer may find ahead of it in the receiver's buffers.
pub const WINDOW_GROWTH_FLOOR: Duration = Duration::from_micros(500);

/// How long the bytes that have left the lanes may delay the next answer, besides those that wait in the kernel: a
/// tenth of the delay that people notice.
pub const BURST_TIME: Duration = Duration::from_millis(16);
/// Least that leaves the lanes at a time, in bytes. With the 5 of the frame header, the 8 of a masked WebSocket header
/// and the 22 of TLS it fills three whole packets of the networks in use (1,500 bytes, or 1,492 with PPPoE). A
/// congestion control that counts packets would count a partly filled packet as a full one, and so think the link
/// faster than it is.
pub const SHORTEST_BURST: usize = 3 * 1440 - 22 - FRAME_HEADER_LEN - 8;
/// Most that leaves the lanes at a time, in bytes: enough for large writes.
pub const FULL_BURST: usize = 32 * 1024;
/// Bytes that may always wait unsent in the kernel on a fast link, however short the round trip: one DATA frame.
pub const UNSENT_FLOOR: usize = 32 * 1024;
/// Most that may wait unsent in the kernel, in bytes: 25 ms at 335 Mbit/s.
pub const FULL_UNSENT: usize = 1024 * 1024;
/// Longest time for which the kernel may hold unsent bytes, on the longest paths: longer than a busy machine makes the
/// agent wait.
pub const UNSENT_TIME: Duration = Duration::from_millis(25);
/// How long bytes are counted to measure the speed of the link: six of the shortest bursts at 2 Mbit/s.
pub const PACE_INTERVAL: Duration = Duration::from_millis(100);

/// While a tunnel has concurrent requests, a window is used for at most this many bytes per microsecond of the shortest
/// round trip, which is what 4 Gbit/s have in flight, but always for [`INITIAL_WINDOW`]. On a short path, more bytes
/// would only wait in buffers, and every small answer behind them.
pub const SHARED_WINDOW_PER_MICROSECOND: u32 = 512;
/// How long a tunnel counts as shared after a request that came while others were open: longer than the gap between the
/// requests of a busy site, shorter than a download that is worth a large window.
pub const SHARED_FOR: Duration = Duration::from_secs(1);

/// Bytes of body that an agent holds ready per stream: about a tenth of a second at 20 Mbit/s, and eight full frames
/// for the lanes to choose from.
pub const SEND_QUEUE_LEN: usize = 256 * 1024;

/// Bytes of body after which a stream counts as bulk. Search results, error texts and the first second of a recording
/// stay below, so they overtake downloads.
pub const SMALL_ANSWER_LEN: u64 = 64 * 1024;

/// Most frames of small answers that are sent before a bulk frame gets its turn: bulk keeps at least a ninth.
pub const SMALL_RUN: u32 = 8;

/// Silence after which a side sends a ping.
pub const PING_AFTER: Duration = Duration::from_secs(15);
/// Interval of pings while a stream is open or was open recently. A dead link is noticed before a client gives up, and
/// round trips are measured while they matter.
pub const PING_AFTER_BUSY: Duration = Duration::from_secs(2);
/// How long after its last stream a tunnel still counts as busy.
pub const BUSY_FOR: Duration = Duration::from_secs(60);
/// Silence after which a busy side considers its peer lost, and an agent dials a second tunnel: the pong of a ping is
/// one second late.
pub const SILENT_AFTER: Duration = Duration::from_secs(3);
/// Silence after which the peer is dead: three pings without an answer.
pub const DEAD_AFTER: Duration = Duration::from_secs(45);

/// How long a relay waits for HELLO after the upgrade, and how long an agent waits for WELCOME.
pub const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the relay waits for RESPONSE. The agent itself answers within 12 s, its storage drivers within 10 s.
pub const RELAY_DEADLINE: Duration = Duration::from_secs(15);
/// How long the agent lets its own service work on a response head.
pub const AGENT_DEADLINE: Duration = Duration::from_secs(12);

/// How long a stream that has credit may send nothing before the relay gives it up: longer than any stall of a disk
/// that recovers, shorter than a listener's patience.
pub const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a stream may stay without credit because its client takes nothing. A browser that is paused keeps its
/// connection; an hour is a long lunch.
pub const PAUSE_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long a side that closes waits for the close frame of its peer.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
