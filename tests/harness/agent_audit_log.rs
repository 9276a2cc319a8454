//! The audit log that an agent writes for the customer.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use crate::process::PATIENCE;

/// The file of `--audit-log`.
#[derive(Debug, Clone)]
pub struct AgentAuditLog {
    path: PathBuf,
}

impl AgentAuditLog {
    /// The audit log in this directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("audit.jsonl") }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The flag that makes the agent write the file.
    pub fn flag(&self) -> [&str; 2] {
        ["--audit-log", self.path.to_str().expect("a path that is text")]
    }

    /// The lines that are in the file now, without the beginnings of deliveries.
    pub fn lines(&self) -> Vec<Value> {
        lines(&self.path).into_iter().filter(|line| line["kind"] != "begun").collect()
    }

    /// The beginnings of deliveries that are in the file now.
    pub fn begun(&self) -> Vec<Value> {
        lines(&self.path).into_iter().filter(|line| line["kind"] == "begun").collect()
    }

    /// The rotated files, the oldest first. Their names end with the time of the rotation.
    pub fn aside(&self) -> Vec<PathBuf> {
        let name = self.path.file_name().and_then(OsStr::to_str).expect("a name that is text");
        let directory = fs::read_dir(self.path.parent().expect("a directory")).expect("a directory");
        let prefix = format!("{name}.2");
        let mut found: Vec<_> = directory
            .map(|entry| entry.expect("an entry").path())
            .filter(|path| {
                path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with(&prefix))
            })
            .collect();
        found.sort();
        found
    }

    /// All lines of the rotated files and of the current file, the oldest first.
    pub fn all_lines(&self) -> Vec<Value> {
        let mut files = self.aside();
        files.push(self.path.clone());
        files.iter().flat_map(|path| lines(path)).collect()
    }

    /// Waits until the file has this many lines.
    pub async fn wait_for(&self, count: usize) -> Vec<Value> {
        self.wait_until(|lines| lines.len() >= count).await
    }

    /// Waits until the file has this many deliveries that have begun. A thread writes them, and it may need a moment.
    pub async fn wait_for_begun(&self, count: usize) -> Vec<Value> {
        self.wait_until(|_| self.begun().len() >= count).await;
        self.begun()
    }

    /// Waits until the file has what the test wants.
    pub async fn wait_until(&self, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let looked = async {
            loop {
                let lines = self.lines();
                if wanted(&lines) {
                    return lines;
                }
                // A file sends no events, so the test polls it, as an operator would.
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let found = tokio::time::timeout(PATIENCE, looked).await;
        found.unwrap_or_else(|_| panic!("it never was in the audit log: {:#?}", self.lines()))
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be incomplete, since the agent may still be writing it.
    let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line:?}: {error}"))).collect()
}
