//! Conversations of the two sides: played by both sides, or by one side against the other side's part of a transcript.

use std::time::{Duration, Instant};

use audiovault_protocol::{mux::Violation, testing::start_of_time};

use crate::{
    end::{Agent, End, Played, Relay},
    stories::hello,
    transcript::{Entry, Message, Section},
};

/// An action of an application at one moment.
pub(crate) type Does<E> = fn(&mut E, Instant);

/// One event, and all messages that follow from it.
pub(crate) struct Turn {
    pub(crate) at: Duration,
    pub(crate) text: &'static str,
    pub(crate) relay: Option<Does<Relay>>,
    pub(crate) agent: Option<Does<Agent>>,
    /// True if both sides send everything before either receives the other's messages.
    pub(crate) crossing: bool,
}

impl Turn {
    fn now(&self) -> Instant {
        start_of_time() + self.at
    }

    pub(crate) fn heading(&self) -> String {
        let crossing = if self.crossing { " Neither has received the message of the other yet." } else { "" };
        format!("[{:.3} s] {}{crossing}", self.at.as_secs_f64(), self.text)
    }
}

/// Plays a conversation with both sides. Returns what both sides sent.
///
/// # Errors
/// The [`Violation`] that one side finds in the other's messages.
pub(crate) fn hold(turns: &[Turn]) -> Result<Vec<Section>, Violation> {
    let mut relay = Relay::accepted(start_of_time());
    let mut agent = Agent::dialled(hello(), start_of_time());
    let mut sections = Vec::new();
    for turn in turns {
        let now = turn.now();
        let mut section = Section { heading: turn.heading(), entries: Vec::new(), line: 0 };
        relay.pass(now)?;
        agent.pass(now)?;
        turn.relay.inspect(|does| does(&mut relay, now));
        turn.agent.inspect(|does| does(&mut agent, now));
        if turn.crossing {
            let from_relay = std::iter::from_fn(|| relay.transmit(now)).collect::<Vec<_>>();
            let from_agent = std::iter::from_fn(|| agent.transmit(now)).collect::<Vec<_>>();
            from_relay.iter().try_for_each(|message| agent.receive(message, now))?;
            from_agent.iter().try_for_each(|message| relay.receive(message, now))?;
            from_relay.into_iter().chain(from_agent).for_each(|message| section.record(message));
        } else {
            while say(&mut relay, &mut agent, &mut section, now)?
                + say(&mut agent, &mut relay, &mut section, now)?
                > 0
            {}
        }
        sections.push(section);
    }
    Ok(sections)
}

/// Lets one side send everything that it has to send. Returns the number of messages.
fn say<M: Played, N: Played>(
    one: &mut End<M>,
    other: &mut End<N>,
    section: &mut Section,
    now: Instant,
) -> Result<usize, Violation> {
    let mut said = 0;
    while let Some(message) = one.transmit(now) {
        other.receive(&message, now)?;
        section.record(message);
        said += 1;
    }
    Ok(said)
}

/// A place where a side does not send what it once sent.
#[derive(Debug)]
pub(crate) struct Difference {
    /// Line of the transcript; 0 if the transcript has no such line.
    pub(crate) line: usize,
    pub(crate) what: String,
}

/// Plays one side. The transcript plays the other side, and the played side's messages must equal it.
///
/// # Errors
/// The first [`Difference`].
pub(crate) fn play<M: Played>(
    mut end: End<M>,
    does: impl Fn(&Turn) -> Option<Does<End<M>>>,
    turns: &[Turn],
    sections: &[Section],
) -> Result<(), Difference> {
    for (turn, section) in turns.iter().zip(sections) {
        let now = turn.now();
        let accuses = |line| {
            move |violation: Violation| Difference {
                line,
                what: format!("the {} takes this no longer: {violation}", M::SIDE.name()),
            }
        };
        end.pass(now).map_err(accuses(section.line))?;
        does(turn).inspect(|does| does(&mut end, now));
        let (own, others): (Vec<_>, Vec<_>) =
            section.entries.iter().partition(|entry| entry.message.from == M::SIDE);
        let entries = if turn.crossing { [own, others].concat() } else { section.entries.iter().collect() };
        for entry in entries {
            for _ in 0..entry.times {
                if entry.message.from == M::SIDE {
                    compare(entry, end.transmit(now))?;
                } else {
                    end.receive(&entry.message, now).map_err(accuses(entry.line))?;
                }
            }
        }
        // Messages that crossed are answered in the next section.
        if turn.crossing {
            continue;
        }
        if let Some(more) = end.transmit(now) {
            let what = format!("after this section there is now\n{}", more.lines(1).join("\n"));
            return Err(Difference { line: section.line, what });
        }
    }
    Ok(())
}

fn compare(entry: &Entry, now: Option<Message>) -> Result<(), Difference> {
    if now.as_ref() == Some(&entry.message) {
        return Ok(());
    }
    let then = entry.message.lines(entry.times);
    let now = now.map(|message| message.lines(entry.times)).unwrap_or_default();
    // The bytes show more than the name, unless they are the same.
    let mut rows = 1..then.len().max(now.len());
    let at = rows.find(|at| then.get(*at) != now.get(*at)).unwrap_or(0);
    let row = |lines: &[String]| lines.get(at).map_or("(nothing)", |line| line.trim()).to_owned();
    let what = format!("{}\n  then: {}\n  now:  {}", then[0], row(&then), row(&now));
    Err(Difference { line: entry.line + at, what })
}
