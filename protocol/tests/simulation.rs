//! Random faults, with as many seeds as take a few seconds: between the pure multiplexers, and between the link's real
//! drivers.
//!
//! `examples/simulate.rs` runs more seeds.

use std::{fmt::Arguments, panic::catch_unwind, time::Duration};

use audiovault_protocol::testing::simulation::{Figures, Finding, link, simulate};

type Simulate = fn(u64, &mut dyn FnMut(Duration, Arguments<'_>)) -> Result<Figures, Finding>;

/// Simulates seeds until all are done or one fails. The failure names the seed and the command that shows it again.
fn live(name: &str, simulate: Simulate, seeds: u64) {
    let mut figures = Figures::default();
    for seed in 0..seeds {
        let finding = match catch_unwind(|| simulate(seed, &mut |_, _| {})) {
            Ok(Ok(came_to)) => {
                figures += came_to;
                continue;
            }
            Ok(Err(finding)) => finding.to_string(),
            Err(_) => "the crate's own assertion failed, see above".to_owned(),
        };
        let again = "cargo run -p audiovault-protocol --example simulate --";
        panic!("{finding}\nsee it again: {again} --only {name} --seed {seed} --trace");
    }
    let all = [figures.complete, figures.cut, figures.asked_again, figures.taken_over];
    assert!(all.iter().all(|count| *count > 0), "the network does too much, or too little: {figures:?}");
}

/// The events in the history of a seed, as text.
fn history(simulate: Simulate, seed: u64) -> Vec<String> {
    let mut lines = Vec::new();
    let _ = simulate(seed, &mut |at, what| lines.push(format!("{at:?} {what}")));
    lines
}

#[test]
fn both_sides_keep_the_protocol_on_any_network() {
    live("mux", simulate, 50);
}

#[test]
fn the_drivers_keep_the_protocol_on_any_network() {
    live("link", link::simulate, 30);
}

#[test]
fn a_seed_is_always_the_same_history() {
    assert_eq!(history(simulate, 7), history(simulate, 7));
    for seed in 0..3 {
        assert_eq!(history(link::simulate, seed), history(link::simulate, seed));
    }
}
