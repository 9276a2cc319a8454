//! The secrets of a test, which must not be in any log: when a program ends, its log is searched for all of them.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

/// A shorter text could be in a log by chance.
const SHORTEST: usize = 8;

static SECRETS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static FILES: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// Makes this text a secret of the test from now on.
pub fn remember(secret: &str) {
    let secret = secret.trim();
    if secret.len() >= SHORTEST {
        SECRETS.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.to_owned());
    }
}

/// Makes the text that a program of the test will write to this file a secret from now on.
pub fn remember_file(file: &Path) {
    FILES.lock().unwrap_or_else(PoisonError::into_inner).insert(file.to_owned());
}

/// The first log line that has a secret in it.
pub fn secrets_in(log: &[String]) -> Option<String> {
    let files: Vec<_> = FILES.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
    for text in files.iter().filter_map(|file| std::fs::read_to_string(file).ok()) {
        text.lines().for_each(remember);
    }
    let secrets = SECRETS.lock().unwrap_or_else(PoisonError::into_inner);
    let has_secret = |line: &&String| secrets.iter().any(|secret| line.contains(secret.as_str()));
    log.iter().find(has_secret).cloned()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{remember, remember_file, secrets_in};
    use crate::process::Process;

    fn shell(script: &str) -> Process {
        Process::start_program(Path::new("sh"), &["-c".to_owned(), script.to_owned()], &[])
    }

    #[test]
    fn a_line_with_a_secret_is_found_at_any_position() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("late");
        remember("s3cr3t-0f-4-story\n");
        remember("short");
        remember_file(&file);
        assert_eq!(secrets_in(&["a short line".to_owned()]), None);
        let line = "url=https://host/?token=s3cr3t-0f-4-story&x".to_owned();
        assert_eq!(secrets_in(&["before".to_owned(), line.clone()]), Some(line));
        std::fs::write(file, "written-by-a-program\n").unwrap();
        let line = "key written-by-a-program".to_owned();
        assert_eq!(secrets_in(std::slice::from_ref(&line)), Some(line));
    }

    #[tokio::test]
    #[should_panic(expected = "a secret is in the log")]
    async fn a_test_fails_when_one_of_its_programs_prints_a_secret() {
        remember("n0t-f0r-th3-l0g");
        let program = shell("echo started; echo n0t-f0r-th3-l0g >&2; sleep 60");
        program.wait_for("n0t-f0r").await;
    }

    #[tokio::test]
    async fn a_test_passes_when_no_program_prints_a_secret() {
        remember("n0t-f0r-th3-l0g-either");
        let silent = shell("echo started; sleep 60");
        silent.wait_for("started").await;
    }
}
