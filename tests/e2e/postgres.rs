//! The relay on a PostgreSQL server: it serves as with a file, imports the content of a file, and reports what is
//! wrong.

use harness::{
    agent::{Agent, AgentOptions, CONNECTED},
    authority::Authority,
    client::{body, client, first_link, search, send},
    operator::{Operator, PASSWORD},
    postgres::Postgres,
    process::run,
    recordings::{CALL, one_recording, wav},
    relay::{Relay, Site},
};
use tempfile::TempDir;

/// Searches and listens to the whole recording.
async fn serves(relay: &Relay, site: &Site) {
    let client = client(relay);
    let link = first_link(&search(&client, site, CALL, &[]).await);
    assert_eq!(body(send(client.get(&link)).await).await, (200, wav(1.0, 1)));
}

#[tokio::test]
async fn a_relay_on_a_server_serves_and_remembers() {
    let Some(server) = Postgres::start().await else { return };
    let mut relay = Relay::start_on_postgres(&server, &[]).await;
    let (site, recordings) = (relay.add_site("acme", &["shop"]).await, one_recording());
    let agent = Agent::start(&relay, &site, AgentOptions::new(recordings.path())).await;
    serves(&relay, &site).await;
    relay.audit(2).await;
    let mark = agent.process.mark();
    relay.kill().await;
    relay.restart().await;
    agent.process.wait_for_code_after(mark, CONNECTED).await;
    serves(&relay, &site).await;
    let audit = relay.audit(4).await;
    assert!(audit.iter().all(|line| line.contains(",complete,")), "{audit:#?}");
    relay.site_command(&["disable", "acme"]).await;
    agent.process.wait_for_code_after(mark, "tunnel.refused").await;
}

#[tokio::test]
async fn a_server_on_another_machine_proves_its_identity_by_tls_or_is_refused() {
    let authority = Authority::new("Acme Databases");
    let Some(server) = Postgres::start_far(Some(&authority)).await else { return };
    let list = async |url: &str| {
        let (code, _, err) =
            run("audiovault-relay", &["user", "list", "--database", url], &server.variables()).await;
        (code, err)
    };
    // Without an authority, or with another one.
    let unknown = Authority::new("Another Authority");
    for unproven in [server.url(), format!("{}?sslrootcert={}", server.url(), unknown.file().display())] {
        let (code, err) = list(&unproven).await;
        assert!(code == 1 && err.contains("does not prove its identity by TLS"), "{unproven}: {err}");
        assert!(err.contains("sslrootcert=FILE") && err.contains("sslmode=disable"), "{err}");
    }
    let proven = format!("{}?sslrootcert={}", server.url(), authority.file().display());
    let relay = Relay::start_on_database(&proven, server.variables()).await;
    let (site, recordings) = (relay.add_site("acme", &[]).await, one_recording());
    let _agent = Agent::start(&relay, &site, AgentOptions::new(recordings.path())).await;
    serves(&relay, &site).await;
    let sessions = "SELECT COUNT(*), COUNT(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) \
                    WHERE usename = 'relay' AND pid <> pg_backend_pid()";
    let (all, encrypted): (i64, i64) =
        sqlx::query_as(sessions).fetch_one(&mut server.connection().await).await.unwrap();
    assert!(all > 0 && all == encrypted, "{encrypted} of {all} connections are encrypted");

    let Some(bare) = Postgres::start_far(None).await else { return };
    let (code, err) = list(&bare.url()).await;
    assert!(code == 1 && err.contains("does not prove its identity by TLS"), "{err}");
    // The request is allowed; that the database is empty is another matter.
    let (_, err) = list(&format!("{}?sslmode=disable", bare.url())).await;
    assert!(err.contains("has no tables of a relay"), "{err}");
}

/// Runs `import` from a file into a server. Returns the exit code and the output.
async fn import(from: &str, server: &Postgres) -> (i32, String) {
    let (url, variables) = (server.url(), server.variables());
    let arguments = ["import", "--from", from, "--database", &url];
    let (code, out, err) = run("audiovault-relay", &arguments, &variables).await;
    (code, out + &err)
}

#[tokio::test]
async fn an_installation_moves_from_a_file_to_a_server_and_continues() {
    let Some(server) = Postgres::start().await else { return };
    let mut relay = Relay::start().await;
    let file = relay.database();
    let (site, recordings) = (relay.add_site("acme", &["shop"]).await, one_recording());
    relay.add_user("root", &["--role", "admin"]).await;
    let agent = Agent::start(&relay, &site, AgentOptions::new(recordings.path())).await;
    serves(&relay, &site).await;
    let before = relay.audit(2).await;

    let (code, said) = import(&file, &server).await;
    assert!(code == 1 && said.contains("a relay uses the database to copy"), "{said}");
    let mut process = relay.process.take().unwrap();
    process.terminate();
    assert!(process.wait().await.success());
    let (code, said) = import(&file, &server).await;
    assert!(code == 0 && said.contains("rows copied"), "{said}");
    let (code, said) = import(&file, &server).await;
    assert!(code == 1 && said.contains("must be empty"), "{said}");

    let mark = agent.process.mark();
    relay.moves_to(&server);
    relay.restart().await;
    agent.process.wait_for_code_after(mark, CONNECTED).await;
    serves(&relay, &site).await;
    let after = relay.audit(4).await;
    assert!(before.iter().all(|line| after.contains(line)), "{before:#?}, {after:#?}");
    // This makes another session; the login shows that user and password are there.
    let root = Operator::log_in(&relay, "root").await;
    assert!(root.page("/sites/acme").await.contains("shop"), "logged in with {} characters", PASSWORD.len());
}

/// What a relay prints when its database cannot be used.
async fn refused(database: &str, environment: &[(&str, String)]) -> String {
    let listen = ["serve", "--bind", "127.0.0.1:0", "--admin-bind", "127.0.0.1:0"];
    let place = ["--public-url", "http://127.0.0.1:1", "--database", database];
    let (code, _, said) = run("audiovault-relay", &[&listen[..], &place].concat(), environment).await;
    assert!((1..=2).contains(&code), "{said}");
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    said
}

#[tokio::test]
async fn an_error_of_a_server_is_one_clear_line_without_a_password() {
    let Some(mut server) = Postgres::start().await else { return };
    let url = server.url();
    let wrong = vec![("PGPASSWORD", "s3cr3t-and-wrong".to_owned())];
    let said = refused(&url, &wrong).await;
    assert!(said.contains("cannot reach") && said.contains("password authentication failed"), "{said}");
    let said = refused(&url.replace("/audiovault", "/elsewhere"), &server.variables()).await;
    assert!(said.contains("does not exist"), "{said}");
    let with_password = url.replace("relay@", "relay:s3cr3t-and-wrong@");
    let said = refused(&with_password, &[]).await;
    assert!(said.contains("cannot reach") && !said.contains("s3cr3t"), "{said}");
    let said = refused(&with_password.replace("/audiovault", "x/audiovault"), &[]).await;
    assert!(said.contains("expected postgres://") && !said.contains("s3cr3t"), "{said}");
    let list = ["site", "list", "--database", &url];
    let (code, _, said) = run("audiovault-relay", &list, &server.variables()).await;
    assert!(code == 1 && said.contains("has no tables of a relay"), "{said}");
    let directory = TempDir::new().unwrap();
    let file = format!("sqlite:{}", directory.path().join("none.db").display());
    let (code, said) = import(&file, &server).await;
    assert!(code == 1 && said.contains("there is no database at"), "{said}");
    server.stop().await;
    let said = refused(&url, &server.variables()).await;
    assert!(said.contains("cannot reach") && said.contains("Connection refused"), "{said}");
}
