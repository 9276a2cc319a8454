//! nginx in front of a relay, configured as in docs/relay/proxy.md.

use std::net::SocketAddr;

use tempfile::TempDir;

use crate::{
    address::free_address,
    process::{Process, installed},
};

/// The source address of its connections to the relay. No client has this address.
pub const SOURCE: &str = "127.0.0.200";

/// A running proxy.
#[derive(Debug)]
pub struct Nginx {
    /// The address on which it listens for plain HTTP.
    pub address: SocketAddr,
    /// The program.
    pub process: Process,
    _dir: TempDir,
}

impl Nginx {
    /// Starts a proxy in front of `relay`. `None`, recorded as skipped, if nginx is not installed.
    pub async fn start(relay: SocketAddr) -> Option<Self> {
        // The block of docs/relay/proxy.md, with another source address.
        let location = format!(
            "proxy_pass http://{relay};
             proxy_bind {SOURCE};
             proxy_http_version 1.1;
             proxy_set_header Host $host;
             proxy_set_header Upgrade $http_upgrade;
             proxy_set_header Connection \"upgrade\";
             proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
             proxy_set_header X-Forwarded-Proto $scheme;
             proxy_buffering off;
             proxy_read_timeout 1h;"
        );
        Self::start_with(&location).await
    }

    /// Starts a proxy whose only location has these directives. `None`, recorded as skipped, if nginx is not
    /// installed.
    pub async fn start_with(location: &str) -> Option<Self> {
        Self::start_beside(location, "").await
    }

    /// Starts a proxy whose only location has the directives in `location`, and whose `http` block also has those in
    /// `http`. `None`, recorded as skipped, if nginx is not installed.
    pub async fn start_beside(location: &str, http: &str) -> Option<Self> {
        Self::start_at(free_address(), &[], location, http).await
    }

    /// The same at an address of the test's choice. If `starter` is not empty, that program starts nginx.
    pub async fn start_at(address: SocketAddr, starter: &[&str], location: &str, http: &str) -> Option<Self> {
        if !installed("nginx") {
            return None;
        }
        let dir = tempfile::tempdir().expect("a temporary directory");
        let home = dir.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {home}/{kind};"))
            .concat();
        let config = format!(
            "daemon off; pid {home}/pid; error_log stderr notice; worker_processes 1;
             events {{}}
             http {{
               access_log off; {temporary} {http}
               server {{
                 listen {address};
                 location / {{ {location} }}
               }}
             }}"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, config).expect("a file");
        let [file, home] = [file.display().to_string(), home.to_string()];
        let path = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"];
        let program = path.into_iter().find(|path| std::path::Path::new(path).exists()).unwrap_or("nginx");
        let words = [starter, &[program, "-c", &file, "-p", &home, "-e", "stderr"]].concat();
        let words: Vec<_> = words.into_iter().map(str::to_owned).collect();
        let process = Process::start_program(words[0].as_ref(), &words[1..], &[]);
        process.wait_for("start worker process ").await;
        Some(Self { address, process, _dir: dir })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGKILL would leave its worker process running.
        self.process.end();
    }
}
