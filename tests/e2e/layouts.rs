//! A recording is found in every known layout of a PBX, through the tunnel.

use std::path::Path;

use harness::{
    agent::{Agent, AgentOptions},
    client::{body, client, first_link, names, search, send},
    recordings::{wav, write},
    relay::Relay,
};

/// One PBX: the path of a recording, the pattern for it, and the search of QueueMetrics.
struct Layout {
    file: &'static str,
    pattern: &'static str,
    call: &'static str,
    more: &'static [(&'static str, &'static str)],
}

/// 2024-03-26 09:31:42 in Madrid.
const CALL: &str = "1711441902.17";

const LAYOUTS: &[Layout] = &[
    Layout {
        file: "asterisk/monitor/2024/03/26/q-600-0034600111222-20240326-093142-1711441902.17.wav",
        pattern: "asterisk/monitor/%YY/%MM/%DD",
        call: CALL,
        more: &[],
    },
    Layout {
        file: "asterisk/monitor/2024/03/26/external-100-0034600111222-20240326-093142-1711441902.17.WAV",
        pattern: "asterisk/monitor/%YY/%MM/%DD",
        call: CALL,
        more: &[],
    },
    Layout {
        file: "freeswitch/recordings/acme.example/archive/2024/Mar/26/5a3c7d06-93f4-4a2f-8d2b-0c1f4a6b7e88.wav",
        pattern: "freeswitch/recordings/%TE/archive/%YY/%ME/%DD",
        call: "5a3c7d06-93f4-4a2f-8d2b-0c1f4a6b7e88",
        more: &[("tenant", "acme.example"), ("start", "2024-03-26 09:31:42")],
    },
    Layout {
        file: "freeswitch/recordings/acme.example/archive/2024/Mar/26/support-101-5a3c7d06-93f4-4a2f-8d2b-0c1f4a6b7e88.mp3",
        pattern: "freeswitch/recordings/%TE/archive/%YY/%ME/%DD",
        call: "5a3c7d06-93f4-4a2f-8d2b-0c1f4a6b7e88",
        more: &[("tenant", "acme.example"), ("start", "1711441902")],
    },
    Layout {
        file: "mikopbx/2024/03/26/09/mikopbx-1711441902.17_GqYxTz.webm",
        pattern: "mikopbx/%YY/%MM/%DD/%HH",
        call: "mikopbx-1711441902.17",
        more: &[],
    },
    Layout {
        file: "yeastar/20240326093142-1711441902.17-600111222-1000-Inbound.wav",
        pattern: "yeastar",
        call: CALL,
        more: &[],
    },
    Layout {
        file: "yeastar-variant/20240326093142-1711441902_17-600111222-1000-Inbound.wav",
        pattern: "yeastar-variant",
        call: CALL,
        more: &[],
    },
    Layout { file: "flat/IN-1711441902.17.wav", pattern: "flat", call: CALL, more: &[] },
    Layout {
        file: "magnus/monitor/customer7/1711441902.17.gsm",
        pattern: "magnus/monitor",
        call: CALL,
        more: &[],
    },
    Layout {
        file: "servers/pbx1/1711441902.17.wav",
        pattern: "servers/%SE",
        call: "pbx1-1711441902.17",
        more: &[],
    },
    Layout {
        file: "queues/support/101/1711441902.17.wav",
        pattern: "queues/%QU/%AG",
        call: CALL,
        more: &[("queue", "support"), ("agent", "Agent/101")],
    },
];

async fn found_and_played(relay: Relay) {
    let site = relay.add_site("acme", &["acme.example"]).await;
    let client = client(&relay);
    for layout in LAYOUTS {
        let dir = tempfile::tempdir().unwrap();
        let sound = wav(1.0, 7);
        write(dir.path(), layout.file, &sound);
        let pattern = format!("{}/{}", dir.path().display(), layout.pattern);
        let options = AgentOptions::new(pattern).with(&["--timezone", "Europe/Madrid"]);
        let agent = Agent::start(&relay, &site, options).await;
        let found = search(&client, &site, layout.call, layout.more).await;
        let name = Path::new(layout.file).file_name().unwrap().to_str().unwrap();
        assert_eq!(names(&found), [name], "{found}");
        assert_eq!(found["complete"], true);
        let (status, bytes) = body(send(client.get(first_link(&found))).await).await;
        assert_eq!(status, 200);
        assert!(bytes == sound, "{}: the recording is another one", layout.file);
        agent.process.kill().await;
        relay
            .wait_for_status("acme", |status| status["sessions"].as_array().is_some_and(Vec::is_empty))
            .await;
    }
}

#[tokio::test]
async fn every_layout_is_found_and_played_over_ws() {
    found_and_played(Relay::start().await).await;
}

#[tokio::test]
async fn every_layout_is_found_and_played_over_wss() {
    found_and_played(Relay::start_tls().await).await;
}
