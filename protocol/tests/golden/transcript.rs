//! Transcripts as text: which side sent which bytes, in a form that people can read.
//!
//! ```text
//! # What the conversation is about.
//!
//! [0.040 s] The event at this time; all messages below follow from it.
//!
//! relay → agent  CREDIT on stream 1
//!     15 00 00 00 01 00 02 00 40                       │ ........@
//! ```
//!
//! The text after the bar shows the same bytes as characters. `ff ×4096` is a byte that is repeated 4096 times.
//! `, 3 times` after the name of a frame means that the same frame is sent three times. `ping`, `pong` and `close` are
//! the other messages of the WebSocket; the bytes of a `close` are its code and its reason.

use std::fmt::Write;

use audiovault_protocol::frame::Frame;
use bytes::Bytes;

/// Bytes in one line.
const ROW: usize = 16;
/// A byte that is repeated at least this often gets its own line.
const RUN: usize = 2 * ROW;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Relay,
    Agent,
}

/// The kind of a WebSocket message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Frame,
    Ping,
    Pong,
    Close,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) from: Side,
    pub(crate) kind: Kind,
    pub(crate) bytes: Bytes,
}

/// A message, how often it comes, and the line in which it begins.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) message: Message,
    pub(crate) times: usize,
    pub(crate) line: usize,
}

/// The messages that follow from one event.
#[derive(Debug)]
pub(crate) struct Section {
    /// The time and the description of the event, in one line.
    pub(crate) heading: String,
    pub(crate) entries: Vec<Entry>,
    pub(crate) line: usize,
}

impl Section {
    pub(crate) fn record(&mut self, message: Message) {
        match self.entries.last_mut() {
            Some(last) if last.message == message => last.times += 1,
            _ => self.entries.push(Entry { message, times: 1, line: 0 }),
        }
    }
}

impl Side {
    fn names(self) -> &'static str {
        match self {
            Self::Relay => "relay → agent",
            Self::Agent => "agent → relay",
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Agent => "agent",
        }
    }
}

impl Message {
    /// The lines of a message that comes this many times: its name, then its bytes.
    pub(crate) fn lines(&self, times: usize) -> Vec<String> {
        let times = if times > 1 { format!(", {times} times") } else { String::new() };
        let mut lines = vec![format!("{}  {}{times}", self.from.names(), self.name())];
        let mut rest = &self.bytes[..];
        while let Some(first) = rest.first() {
            let run = rest.iter().take_while(|byte| *byte == first).count();
            if run >= RUN {
                lines.push(format!("    {first:02x} ×{run}"));
                rest = &rest[run..];
                continue;
            }
            let begins_run = |at: &usize| rest[*at..].iter().take_while(|o| **o == rest[*at]).count() >= RUN;
            let row = (1..ROW.min(rest.len())).find(begins_run).unwrap_or(ROW.min(rest.len()));
            lines.push(line_of(&rest[..row]));
            rest = &rest[row..];
        }
        lines
    }

    fn name(&self) -> String {
        match self.kind {
            Kind::Ping => "ping".to_owned(),
            Kind::Pong => "pong".to_owned(),
            Kind::Close => "close".to_owned(),
            Kind::Frame => {
                let name = Frame::decode(self.bytes.clone()).map_or("unreadable", |frame| frame.name());
                match self.bytes.get(1..5).and_then(|stream| stream.try_into().ok()).map(u32::from_be_bytes) {
                    None | Some(0) => name.to_owned(),
                    Some(stream) => format!("{name} on stream {stream}"),
                }
            }
        }
    }
}

fn line_of(bytes: &[u8]) -> String {
    let hex = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
    let text = bytes.iter().map(|byte| char::from(*byte));
    let text: String = text.map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '.' }).collect();
    format!("    {hex:<47}  │ {text}").trim_end().to_owned()
}

/// Writes a transcript as text.
pub(crate) fn render(about: &str, sections: &[Section]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "# {about}\n# How to read this is explained in tests/golden/transcript.rs.");
    for section in sections {
        let _ = write!(text, "\n{}\n", section.heading);
        for entry in &section.entries {
            let _ = write!(text, "\n{}\n", entry.message.lines(entry.times).join("\n"));
        }
    }
    text
}

/// Reads a transcript.
///
/// # Errors
/// A description of a line that has no meaning.
pub(crate) fn parse(text: &str) -> Result<Vec<Section>, String> {
    let mut sections: Vec<Section> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let wrong = || format!("line {number} means nothing: {line}");
        if line.starts_with('#') || line.trim().is_empty() {
            continue;
        }
        if line.starts_with('[') {
            sections.push(Section { heading: line.to_owned(), entries: Vec::new(), line: number });
            continue;
        }
        let entries = &mut sections.last_mut().ok_or_else(wrong)?.entries;
        if let Some(row) = line.strip_prefix("    ") {
            let message = &mut entries.last_mut().ok_or_else(wrong)?.message;
            let bytes = bytes_of(row).ok_or_else(wrong)?;
            message.bytes = [&message.bytes[..], &bytes].concat().into();
        } else {
            entries.push(entry_of(line, number).ok_or_else(wrong)?);
        }
    }
    Ok(sections)
}

/// Reads a line that begins a message.
fn entry_of(line: &str, number: usize) -> Option<Entry> {
    let (names, what) = line.split_once("  ")?;
    let from = [Side::Relay, Side::Agent].into_iter().find(|side| side.names() == names)?;
    let (name, times) = match what.strip_suffix(" times").and_then(|what| what.rsplit_once(", ")) {
        Some((name, times)) => (name, times.parse().ok()?),
        None => (what, 1),
    };
    let kind = match name {
        "ping" => Kind::Ping,
        "pong" => Kind::Pong,
        "close" => Kind::Close,
        _ => Kind::Frame,
    };
    Some(Entry { message: Message { from, kind, bytes: Bytes::new() }, times, line: number })
}

fn bytes_of(row: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for word in row.split('│').next()?.split_whitespace() {
        match word.strip_prefix('×') {
            Some(times) => bytes.resize(bytes.len() + times.parse::<usize>().ok()? - 1, *bytes.last()?),
            None => bytes.push(u8::from_str_radix(word, 16).ok()?),
        }
    }
    Some(bytes)
}
