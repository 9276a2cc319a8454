//! Golden transcripts: the exact bytes that this version of the protocol sends, as deployed agents and relays send
//! them.
//!
//! Each story is played by the real multiplexers, one side at a time; the transcript is the other side.

#![expect(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

mod conversation;
mod end;
mod stories;
mod transcript;

use std::{collections::BTreeSet, fs, path::PathBuf};

use audiovault_protocol::{frame::Frame, message::SUBPROTOCOL, testing::start_of_time};

use self::{
    conversation::{Difference, Turn, hold, play},
    end::{Agent, Relay},
    stories::{Story, greeting, hello, stories},
    transcript::{Kind, Section, parse, render},
};

/// If this variable is set, the transcripts are written again.
const WRITE: &str = "AUDIOVAULT_WRITE_GOLDEN";

const WHAT_TO_DO: &str = "\
    Agents and relays out there speak as the transcript does. If the bytes of a frame or their meaning have changed, \
    this is another version of the protocol: raise SUBPROTOCOL, write it into PROTOCOL.md, and keep these transcripts \
    for as long as the version is spoken. Only if both sides still take what stands here, and the change is one that \
    PROTOCOL.md allows within a version, or one of when or how much is said, or of the story, write the transcripts \
    anew and read what has become of them (git diff):\n\
    AUDIOVAULT_WRITE_GOLDEN=1 cargo test -p audiovault-protocol --all-features --test golden";

/// A story as it is played: after the greeting.
struct Scene {
    path: PathBuf,
    turns: Vec<Turn>,
    sections: Vec<Section>,
}

fn path(story: &Story) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(SUBPROTOCOL);
    directory.join(story.name).with_extension("txt")
}

/// Puts the turns of the greeting before those of the story. Returns how many these are.
fn greeted(mut story: Story) -> (Story, usize) {
    let mut turns = greeting().turns;
    let before = turns.len();
    turns.append(&mut story.turns);
    (Story { turns, ..story }, before)
}

fn all_stories() -> Vec<(Story, usize)> {
    std::iter::once((greeting(), 0)).chain(stories().into_iter().map(greeted)).collect()
}

fn read(story: &Story) -> Vec<Section> {
    let path = path(story);
    let text = fs::read_to_string(&path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}\n\n{WHAT_TO_DO}", path.display()));
    parse(&text).unwrap_or_else(|wrong| panic!("{}: {wrong}", path.display()))
}

/// Every story with its transcript. If [`WRITE`] is set, all transcripts are written again instead.
fn scenes() -> Vec<Scene> {
    if std::env::var_os(WRITE).is_some() {
        write();
    }
    let scene = |(story, before): (Story, usize)| {
        let mut sections = if before > 0 { read(&greeting()) } else { Vec::new() };
        sections.append(&mut read(&story));
        Scene { path: path(&story), turns: story.turns, sections }
    };
    all_stories().into_iter().map(scene).collect()
}

/// Never returns, so that no test can pass by writing what it should read.
fn write() -> ! {
    for (story, before) in all_stories() {
        let sections = hold(&story.turns).unwrap();
        let path = path(&story);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, render(story.about, &sections[before..])).unwrap();
    }
    panic!(
        "the transcripts of {SUBPROTOCOL} are written anew: read them, and run this again without {WRITE}"
    );
}

fn agreed(scene: &Scene, played: Result<(), Difference>) {
    if let Err(Difference { line, what }) = played {
        panic!("{}, line {line}: {what}\n\n{WHAT_TO_DO}", scene.path.display());
    }
}

#[test]
fn every_transcript_is_that_of_its_story() {
    for scene in scenes() {
        let expected = scene.turns.iter().map(Turn::heading).collect::<Vec<_>>();
        let written = scene.sections.iter().map(|section| section.heading.clone()).collect::<Vec<_>>();
        assert_eq!(expected, written, "{}\n\n{WHAT_TO_DO}", scene.path.display());
    }
}

#[test]
fn a_relay_says_to_the_agents_of_this_version_what_it_always_said() {
    for scene in scenes() {
        let relay = Relay::accepted(start_of_time());
        agreed(&scene, play(relay, |turn| turn.relay, &scene.turns, &scene.sections));
    }
}

#[test]
fn an_agent_says_to_the_relays_of_this_version_what_it_always_said() {
    for scene in scenes() {
        let agent = Agent::dialled(hello(), start_of_time());
        agreed(&scene, play(agent, |turn| turn.agent, &scene.turns, &scene.sections));
    }
}

#[test]
fn every_frame_is_read_and_written_to_the_same_bytes() {
    let mut names = BTreeSet::new();
    for scene in scenes() {
        let entries = scene.sections.iter().flat_map(|section| &section.entries);
        for entry in entries.filter(|entry| entry.message.kind == Kind::Frame) {
            let bytes = &entry.message.bytes;
            let differs = |what| Difference { line: entry.line, what };
            let again = Frame::decode(bytes.clone()).map(|frame| {
                names.insert(frame.name());
                frame.encode()
            });
            agreed(
                &scene,
                match again {
                    Err(error) => Err(differs(format!("the frame cannot be read any more: {error}"))),
                    Ok(again) if again != bytes => {
                        Err(differs(format!("the frame is written otherwise: {again:?}")))
                    }
                    Ok(_) => Ok(()),
                },
            );
        }
    }
    let kinds = "ANSWER CREDIT DATA END GOAWAY HELLO REQUEST RESET RESPONSE STATUS WELCOME";
    assert_eq!(
        names.into_iter().collect::<Vec<_>>().join(" "),
        kinds,
        "a transcript holds every kind of frame"
    );
}
