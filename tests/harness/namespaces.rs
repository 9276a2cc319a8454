//! Network namespaces of one test, which are removed with it.

use std::{
    fs::File,
    os::fd::AsFd,
    process::{Command, Output},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{
    address::free_address,
    process::{installed, skip},
};

/// Some namespaces. They are removed when this is dropped; programs in them continue until they end by themselves.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// The prefix of all their names. It has at most seven characters, so that names of interfaces can begin with it
    /// too.
    pub(crate) id: String,
    sides: &'static [&'static str],
}

impl Namespaces {
    /// Makes the namespaces, each with its loopback interface up, and runs a script (iproute2 and others) that sets
    /// them up. In the script, each side's name is a variable. `None`, recorded as skipped, if that is not possible
    /// here.
    pub(crate) fn make(sides: &'static [&'static str], setup: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("tests in network namespaces: only root may make them");
            return None;
        }
        if !installed("ip") {
            return None;
        }
        let made = Self { id: format!("av{}", free_address().port()), sides };
        let begin: String = sides
            .iter()
            .map(|side| format!("ip netns add ${side}; ip -n ${side} link set lo up\n"))
            .chain([setup.to_owned()])
            .collect();
        if let Err(why) = made.run(&begin) {
            skip(&format!("tests in network namespaces: they cannot be made here ({why})"));
            return None;
        }
        Some(made)
    }

    /// The full name of a side.
    pub(crate) fn name(&self, side: &str) -> String {
        format!("{}-{side}", self.id)
    }

    /// A side, which a thread can enter.
    pub(crate) fn side(&self, side: &str) -> Side {
        Side(File::open(format!("/run/netns/{}", self.name(side))).expect("a namespace"))
    }

    /// Runs a script in which each side's name is a variable. Returns its standard output, or its error text.
    pub(crate) fn run(&self, script: &str) -> Result<String, String> {
        let done = self.shell(script).expect("a shell");
        if done.status.success() {
            Ok(String::from_utf8(done.stdout).expect("UTF-8"))
        } else {
            Err(String::from_utf8_lossy(&done.stderr).trim().to_owned())
        }
    }

    fn shell(&self, script: &str) -> std::io::Result<Output> {
        let mut command = Command::new("sh");
        command.args(["-e", "-c", script]).env("id", &self.id);
        command.envs(self.sides.iter().map(|side| (side, self.name(side)))).output()
    }
}

/// One namespace.
#[derive(Debug)]
pub(crate) struct Side(File);

impl Side {
    /// Moves this thread into the namespace, with every thread and program that it starts from now on.
    pub(crate) fn enter(&self) {
        move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may");
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for side in self.sides {
            let _ = self.shell(&format!("ip netns del ${side}"));
        }
    }
}
