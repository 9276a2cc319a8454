//! A Docker engine for one test, and base images made of Debian's packages.

use std::{
    path::{Path, PathBuf},
    process::{ExitStatus, Output},
};

use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Process, artefacts, installed, skip};

/// The release of Debian in the images. The programs of this run must be compiled on the same release.
const RELEASE: &str = "bookworm";

/// A running engine. Everything that it has built and started ends with it.
#[derive(Debug)]
pub struct Engine {
    daemon: Process,
    host: String,
    dir: TempDir,
}

impl Engine {
    /// Starts an engine. `None`, recorded as skipped, if it cannot run, or if programs that are compiled here do not
    /// run in the images.
    pub async fn start() -> Option<Self> {
        if !["dockerd", "docker", "docker-compose", "debootstrap"].into_iter().all(installed) {
            return None;
        }
        if !rustix::process::geteuid().is_root() {
            skip("tests of the images: only root can start a Docker engine");
            return None;
        }
        let release = std::fs::read_to_string("/etc/os-release").unwrap_or_default();
        if !release.contains(&format!("VERSION_CODENAME={RELEASE}")) {
            skip(
                "the images: they are of another release than this machine, so its programs may not run in them",
            );
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name).display().to_string();
        let host = format!("unix://{}", path("docker.sock"));
        // Bridges are made for each network. The default bridge may belong to the machine's own engine.
        let options = [
            ("--data-root", path("data")),
            ("--exec-root", path("exec")),
            ("--pidfile", path("pid")),
            ("--host", host.clone()),
            ("--bridge", "none".to_owned()),
        ];
        let words: Vec<String> =
            options.into_iter().flat_map(|(name, value)| [name.to_owned(), value]).collect();
        let program =
            ["/usr/sbin/dockerd", "/usr/bin/dockerd"].into_iter().find(|path| Path::new(path).exists());
        let daemon = Process::start_program(Path::new(program?), &words, &[]);
        daemon.wait_for("API listen on").await;
        Some(Self { daemon, host, dir })
    }

    /// Runs a command of the Docker client, which must succeed. Returns its output.
    pub async fn docker(&self, words: &[&str]) -> String {
        self.succeed(self.command("docker").args(words)).await
    }

    /// A command with the environment for this engine.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        // The classic builder, since every engine has it.
        command.env("DOCKER_HOST", &self.host).env("DOCKER_BUILDKIT", "0").kill_on_drop(true);
        command
    }

    /// Runs a command, which must succeed. Returns its output.
    pub async fn succeed(&self, command: &mut Command) -> String {
        let Output { status, stdout, stderr } = command.output().await.expect("the program starts");
        let printed = String::from_utf8_lossy(&stdout).into_owned();
        assert!(status.success(), "{command:?}: {printed}{}", String::from_utf8_lossy(&stderr));
        printed
    }

    /// Makes Debian's image under the name that the Dockerfiles use. Its files are kept for the next run.
    pub async fn import_debian(&self) {
        let archive = artefacts("images").join(format!("debian-{RELEASE}.tar"));
        if !archive.exists() {
            let root = self.dir.path().join("root");
            self.succeed(Command::new("debootstrap").args(["--variant=minbase", RELEASE]).arg(&root)).await;
            std::fs::create_dir_all(artefacts("images")).expect("a directory");
            // The file is renamed when it is complete, so that another run never sees a part of it.
            let unfinished = archive.with_extension("unfinished");
            self.succeed(Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&unfinished).arg(".")).await;
            std::fs::rename(&unfinished, &archive).expect("the same directory");
            std::fs::remove_dir_all(&root).expect("it was made here");
        }
        self.docker(&["import", &archive.display().to_string(), "debian:bookworm-slim"]).await;
    }

    /// Builds an image from a Dockerfile, with the files of a directory.
    pub async fn build(&self, dockerfile: &Path, context: &Path, tag: &str) {
        let file = dockerfile.display().to_string();
        self.docker(&["build", "--network", "host", "-f", &file, "-t", tag, &context.display().to_string()])
            .await;
    }

    /// The directory in which the engine keeps the files of a volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.dir.path().join("data/volumes").join(name).join("_data")
    }

    /// A directory in the engine's own, for files of the test.
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// Ends the engine.
    pub async fn stop(mut self) -> ExitStatus {
        self.daemon.terminate();
        self.daemon.wait().await
    }
}
