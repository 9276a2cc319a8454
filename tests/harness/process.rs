//! A program that is observed through its log. Tests wait for log lines instead of sleeping.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::watch,
};

use crate::secrets;

/// How long a test waits for any event: far longer than a loaded machine needs.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The path of a program of this workspace, next to the running test. Builds it if necessary.
pub fn program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let profile = here.ancestors().find(|dir| dir.join("deps").is_dir()).expect("the target directory");
    let path = profile.join(name);
    if !path.exists() {
        let mut build =
            std::process::Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        build.args(["build", "--package", name, "--bin", name]);
        // Cargo names the directory after the profile, except for `dev`.
        if let Some(profile) = profile.file_name().filter(|name| *name != "debug") {
            build.arg("--profile").arg(profile);
        }
        assert!(build.status().expect("cargo").success(), "{name} does not build");
    }
    path
}

/// Whether a program that a test needs is installed. If not, the test is recorded as skipped, which does not count as
/// passed.
pub fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found =
        std::env::split_paths(&path).chain(["/usr/sbin".into()]).any(|dir| dir.join(program).exists());
    if !found {
        skip(&format!("tests with {program}: it is not installed; tests/run installs it"));
    }
    found
}

/// Records that a test is skipped. Fails if there is no list of skipped tests, so that a person who runs one test sees
/// it.
pub fn skip(reason: &str) {
    let file = std::env::var_os("AUDIOVAULT_SKIPPED").unwrap_or_else(|| panic!("skipped: {reason}"));
    let mut file = std::fs::OpenOptions::new().append(true).open(file).expect("the list of skipped tests");
    writeln!(file, "SKIPPED: {reason}").expect("room on the disk");
}

/// Whether a line of a log has a code.
pub fn has_code(line: &str, code: &str) -> bool {
    line.contains(&field_of(code))
}

fn field_of(code: &str) -> String {
    format!("code=\"{code}\"")
}

/// The path of an artefact of this run, in the target directory.
pub fn artefacts(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("the path of this program");
    let profile = here.ancestors().find(|dir| dir.join("deps").is_dir()).expect("the target directory");
    profile.parent().expect("the target directory").join(name)
}

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    lines: watch::Receiver<usize>,
    /// Whether the lines are read, or stay in the pipes.
    reading: watch::Sender<bool>,
}

impl Process {
    /// Starts a program of this workspace. It is killed when this is dropped.
    pub fn start(name: &str, arguments: &[String], environment: &[(&str, String)]) -> Self {
        Self::start_program(&program(name), arguments, environment)
    }

    /// Starts any program with arguments and environment variables. It is killed when this is dropped.
    pub fn start_program(program: &Path, arguments: &[String], environment: &[(&str, String)]) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value.clone())));
        Self::watch(command)
    }

    /// Starts any program. It is killed when this is dropped.
    pub fn watch(command: Command) -> Self {
        let mut child = spawn(command, Stdio::piped(), Stdio::piped());
        let log = Arc::new(Mutex::new(Vec::new()));
        let (sender, lines) = watch::channel(0);
        let sender = Arc::new(sender);
        let reading = watch::Sender::new(true);
        let out = Reader { log: Arc::clone(&log), count: Arc::clone(&sender), reading: reading.subscribe() };
        let err = Reader { log: Arc::clone(&log), count: sender, reading: reading.subscribe() };
        tokio::spawn(out.read(child.stdout.take().expect("piped")));
        tokio::spawn(err.read(child.stderr.take().expect("piped")));
        Self { child, log, lines, reading }
    }

    /// Stops or continues to read what the program writes. What is not read stays in the pipes, until they are full.
    pub fn set_reading(&self, reading: bool) {
        self.reading.send_replace(reading);
    }

    /// Starts any program that writes its log to a file, as at a hoster: for measurements, because nothing reads that
    /// log while the program runs. No line of it can be waited for. The program is killed when this is dropped.
    pub fn start_into(
        log: File,
        program: &Path,
        arguments: &[String],
        environment: &[(&str, String)],
    ) -> Self {
        let mut command = Command::new(program);
        command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value.clone())));
        let child = spawn(command, Stdio::null(), log.into());
        Self { child, log: Arc::default(), lines: watch::channel(0).1, reading: watch::Sender::new(false) }
    }

    /// All lines that have been logged so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lock().expect("no panic under the lock").clone()
    }

    /// The number of lines that have been logged so far: a mark for [`Process::wait_for_after`].
    pub fn mark(&self) -> usize {
        *self.lines.borrow()
    }

    /// Waits for a line that contains `text`.
    pub async fn wait_for(&self, text: &str) -> String {
        self.wait_for_after(0, text).await
    }

    /// Waits for a line with a code (docs/log-codes.md).
    pub async fn wait_for_code(&self, code: &str) -> String {
        self.wait_for_code_after(0, code).await
    }

    /// Waits for a line with a code that comes after the mark.
    pub async fn wait_for_code_after(&self, mark: usize, code: &str) -> String {
        self.wait_for_after(mark, &field_of(code)).await
    }

    /// Waits for this many lines that contain `text`. A program writes its lines some milliseconds after their events.
    pub async fn wait_for_times(&self, text: &str, count: usize) {
        let mut mark = 0;
        for _ in 0..count {
            self.wait_for_after(mark, text).await;
            let log = self.log();
            let found = log.iter().skip(mark).position(|line| line.contains(text));
            mark += found.unwrap_or_default() + 1;
        }
    }

    /// Waits for a line that contains `text` and comes after the mark.
    pub async fn wait_for_after(&self, mark: usize, text: &str) -> String {
        let mut lines = self.lines.clone();
        let found = async {
            loop {
                let line = self.log().into_iter().skip(mark).find(|line| line.contains(text));
                if let Some(line) = line {
                    return line;
                }
                if lines.changed().await.is_err() {
                    panic!("the program ended without {text:?}: {:#?}", self.log());
                }
            }
        };
        tokio::time::timeout(PATIENCE, found)
            .await
            .unwrap_or_else(|_| panic!("{text:?} was never logged: {:#?}", self.log()))
    }

    /// Kills the program, like a crash (SIGKILL).
    pub async fn kill(mut self) {
        self.child.kill().await.expect("the program can be killed");
    }

    /// Asks the program to end (SIGTERM) and waits a short time for that. For code that cannot use `await`.
    pub fn end(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.terminate();
            let patience = std::time::Instant::now() + Duration::from_secs(2);
            while matches!(self.child.try_wait(), Ok(None)) && std::time::Instant::now() < patience {
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// Asks the program to end (SIGTERM).
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id().expect("the program runs")
    }

    /// Sends the program a signal, with the name that `kill` uses.
    pub fn signal(&self, signal: &str) {
        let id = self.id();
        let signal = format!("-{signal}");
        let status = std::process::Command::new("kill").args([&signal, &id.to_string()]).status();
        assert!(status.expect("kill").success());
    }

    /// Waits until the program has ended.
    pub async fn wait(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait())
            .await
            .expect("the program ends")
            .expect("it can be waited for")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        if let Some(line) = secrets::secrets_in(&self.log()) {
            panic!("a secret is in the log: {line}");
        }
    }
}

fn spawn(mut command: Command, stdout: Stdio, stderr: Stdio) -> Child {
    // Every test starts a program before it sends a request, and the HTTP client needs a crypto provider even
    // without TLS.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    command.stdin(Stdio::null()).stdout(stdout).stderr(stderr).kill_on_drop(true);
    command.spawn().expect("the program starts")
}

/// Collects the lines of a pipe.
struct Reader {
    log: Arc<Mutex<Vec<String>>>,
    count: Arc<watch::Sender<usize>>,
    reading: watch::Receiver<bool>,
}

impl Reader {
    async fn read(mut self, pipe: impl AsyncRead + Unpin) {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            self.log.lock().expect("no panic under the lock").push(line);
            self.count.send_modify(|count| *count += 1);
            // An error means that the process is no longer watched; then it is read to its end.
            let _ = self.reading.wait_for(|reading| *reading).await;
        }
    }
}

/// Runs a program of this workspace until it ends. Returns exit code, standard output and standard error.
pub async fn run(name: &str, arguments: &[&str], environment: &[(&str, String)]) -> (i32, String, String) {
    let arguments: Vec<String> = arguments.iter().map(ToString::to_string).collect();
    run_program(&program(name), &arguments, environment).await
}

/// Runs any program until it ends. Returns exit code, standard output and standard error.
pub async fn run_program(
    program: &Path,
    arguments: &[String],
    environment: &[(&str, String)],
) -> (i32, String, String) {
    let mut command = Command::new(program);
    command.args(arguments).envs(environment.iter().map(|(name, value)| (*name, value.clone())));
    let output = tokio::time::timeout(PATIENCE, command.stdin(Stdio::null()).kill_on_drop(true).output());
    let output = output.await.expect("the program ends").expect("the program starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().unwrap_or(-1), text(output.stdout), text(output.stderr))
}
