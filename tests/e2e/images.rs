//! The images of docker/, built and run by a real Docker engine.

use std::{
    collections::BTreeSet,
    fs,
    net::{Ipv4Addr, TcpListener},
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::Command,
};

use harness::{
    bare_root::static_agent,
    client::body,
    engine::Engine,
    process::{program, skip},
    secrets,
};
use reqwest::Client;
use serde_json::Value;

/// The top directory of the repository.
fn top() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Builds the image of a program from its own Dockerfile, with the program of this run in place of a newly compiled
/// one. The stage that compiles matters only for its result.
async fn build(engine: &Engine, name: &str, binary: &Path) {
    let recipe = fs::read_to_string(top().join(format!("docker/{name}.Dockerfile"))).unwrap();
    let (_, last) = recipe.rsplit_once("\nFROM ").unwrap();
    let recipe =
        format!("FROM scratch AS build\nCOPY program /src/target/dist/audiovault-{name}\nFROM {last}");
    let context = engine.scratch().join(name);
    fs::create_dir(&context).unwrap();
    fs::copy(binary, context.join("program")).unwrap();
    fs::write(context.join("Dockerfile"), recipe).unwrap();
    engine.build(&context.join("Dockerfile"), &context, &format!("audiovault_{name}")).await;
}

/// The files that an engine sends to a build: those of the repository that .dockerignore does not exclude.
async fn context(engine: &Engine) -> PathBuf {
    let recipe = engine.scratch().join("context.Dockerfile");
    fs::write(&recipe, "FROM scratch\nCOPY . /src/\n").unwrap();
    engine.build(&recipe, &top(), "context").await;
    let container = engine.docker(&["create", "context", "none"]).await;
    let archive = engine.scratch().join("context.tar");
    engine.docker(&["export", "--output", &archive.display().to_string(), container.trim()]).await;
    let directory = engine.scratch().join("context");
    fs::create_dir(&directory).unwrap();
    let mut unpack = engine.command("tar");
    engine.succeed(unpack.arg("-C").arg(&directory).arg("-xf").arg(&archive)).await;
    directory.join("src")
}

/// The files of the repository from which a program is compiled, as cargo lists them: `PROGRAM: FILE FILE …`.
fn sources(binary: &Path) -> BTreeSet<PathBuf> {
    let notes = fs::read_to_string(binary.with_extension("d")).unwrap();
    let files =
        notes.lines().filter_map(|line| line.split_once(": ")).flat_map(|(_, files)| files.split(' '));
    let within = files.filter_map(|file| Path::new(file).strip_prefix(top()).ok()).map(Path::to_owned);
    let sources: BTreeSet<PathBuf> = within.collect();
    assert!(sources.len() > 50, "{sources:?}");
    sources
}

/// Lets cargo read the manifests in the context of a build, and checks that it has every source.
async fn holds_what_is_compiled(engine: &Engine) {
    let context = context(engine).await;
    let mut cargo = engine.command("cargo");
    let words = ["metadata", "--format-version", "1", "--locked", "--offline", "--no-deps"];
    engine.succeed(cargo.args(words).current_dir(&context)).await;
    for name in ["audiovault-agent", "audiovault-relay"] {
        for source in sources(&program(name)) {
            assert!(context.join(&source).exists(), "{} is kept from the build of {name}", source.display());
        }
    }
    assert!(!context.join(".git").exists() && !context.join("target").exists());
}

/// `docker/compose.yaml` at a free port of this machine, without the name, which early releases of Compose do not
/// know.
struct Compose<'a> {
    engine: &'a Engine,
    file: PathBuf,
}

impl<'a> Compose<'a> {
    fn new(engine: &'a Engine, port: u16) -> Self {
        let text = fs::read_to_string(top().join("docker/compose.yaml")).unwrap();
        let text: String =
            text.lines().filter(|line| !line.starts_with("name:")).map(|line| format!("{line}\n")).collect();
        let text = text
            .replace("127.0.0.1:8080:", &format!("127.0.0.1:{port}:"))
            .replace("http://localhost:8080", &format!("http://127.0.0.1:{port}"))
            .replace("./setup.sh", &top().join("docker/setup.sh").display().to_string());
        let file = engine.scratch().join("compose.yaml");
        fs::write(&file, text).unwrap();
        Self { engine, file }
    }

    async fn run(&self, words: &[&str]) -> String {
        let mut compose = self.engine.command("docker-compose");
        compose.args(["-p", "audiovault", "-f"]).arg(&self.file).args(words);
        self.engine.succeed(&mut compose).await
    }
}

/// The word that `setup` prints after a title.
fn printed_after(log: &str, title: &str) -> String {
    let line =
        log.lines().find_map(|line| line.split_once(title)).unwrap_or_else(|| panic!("{title}: {log}"));
    line.1.trim().to_owned()
}

#[tokio::test]
async fn the_images_build_and_serve_a_recording_to_the_outside() {
    let agent = static_agent();
    if !agent.exists() {
        return skip("tests of the images: the static agent is not built; agent/build-static.sh builds it");
    }
    let Some(engine) = Engine::start().await else { return };
    holds_what_is_compiled(&engine).await;
    engine.import_debian().await;
    build(&engine, "relay", &program("audiovault-relay")).await;
    build(&engine, "agent", &agent).await;
    engine.docker(&["tag", "audiovault_relay", "audiovault_setup"]).await;

    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let compose = Compose::new(&engine, port);
    compose.run(&["up", "-d", "--no-build"]).await;
    let log = compose.run(&["logs", "--no-color", "setup"]).await;
    let (url, token, calls) = (
        printed_after(&log, "search URL"),
        printed_after(&log, "search token"),
        printed_after(&log, "call ids"),
    );
    secrets::remember(&token);
    let call = calls.split(' ').next_back().unwrap();

    let client = Client::new();
    let search =
        async || client.post(&url).form(&[("token", token.as_str()), ("callid", call)]).send().await.unwrap();
    // The agent may still be dialling, and the relay says so; nothing else is accepted.
    let found = loop {
        let found = search().await;
        if found.status() == 200 {
            break found.json::<Value>().await.unwrap();
        }
        assert_eq!(found.status(), 503);
        compose.run(&["logs", "agent"]).await;
    };
    let file = &found["files"][0];
    let link = file["url"].as_str().unwrap();
    assert!(link.starts_with(&format!("http://127.0.0.1:{port}/demo/recordings/")), "{link}");
    let on_disk = recording(&engine.volume("audiovault_recordings"), file["filename"].as_str().unwrap());
    assert_eq!(body(client.get(link).send().await.unwrap()).await, (200, on_disk.clone()));
    let range = client.get(link).header("range", "bytes=100-50099").send().await.unwrap();
    assert_eq!(body(range).await, (206, on_disk[100..50_100].to_vec()));

    compose.run(&["stop"]).await;
    for service in ["relay", "agent", "setup"] {
        let id = compose.run(&["ps", "-q", service]).await;
        let code = engine.docker(&["inspect", "--format", "{{.State.ExitCode}}", id.trim()]).await;
        assert_eq!(code.trim(), "0", "{service}: {}", compose.run(&["logs", service]).await);
    }
    compose.run(&["down", "--volumes"]).await;
    assert!(engine.stop().await.success());
}

/// The recording with this name, in any directory below.
fn recording(directory: &Path, name: &str) -> Vec<u8> {
    let found = Command::new("find").arg(directory).args(["-name", name, "-print0"]).output().unwrap().stdout;
    let path = found.split(|byte| *byte == 0).next().unwrap();
    fs::read(Path::new(std::ffi::OsStr::from_bytes(path))).unwrap()
}
