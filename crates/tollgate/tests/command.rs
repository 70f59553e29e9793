//! The server's commands: start, stop, quit, restart, reload, health, check, config and the like.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]

mod common;

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use common::upstream::Upstream;
use common::{Tollgate, connect, eventually, exchange, read_answer, run};
use tempfile::TempDir;

/// A folder with a configuration file and what is run in it. A node in the background ends with it.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(configuration: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.write("tollgate.conf", configuration);
        place
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn run(&self, words: &[&str]) -> (i32, String, String) {
        let mut command = Tollgate::command(self.path(), &[]);
        // These are set in the file.
        for name in ["KONG_PROXY_LISTEN", "KONG_ADMIN_LISTEN", "KONG_STATUS_LISTEN"] {
            command.env_remove(name);
        }
        let file = self.path().join("tollgate.conf");
        let with_file = ["start", "stop", "quit", "restart", "reload", "health"].contains(&words[0]);
        command.current_dir(self.path()).args(words);
        if with_file {
            command.arg("-c").arg(file);
        }
        run(&mut command)
    }

    fn ok(&self, words: &[&str]) -> String {
        let (code, out, err) = self.run(words);
        assert_eq!(code, 0, "{words:?}: {out}{err}");
        out
    }

    /// Ports by listener, as a start or restart says them.
    fn port(said: &str, listener: &str) -> u16 {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("listening: {listener} ")));
        line.unwrap_or_else(|| panic!("{listener} in {said}")).rsplit_once(':').unwrap().1.parse().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.run(&["stop"]);
    }
}

const LISTEN: &str = "proxy_listen = 127.0.0.1:0\nadmin_listen = 127.0.0.1:0\nstatus_listen = off\n";

fn declaration(path: &str, upstream: u16) -> String {
    format!(
        "_format_version: \"3.0\"\nservices:\n- name: s\n  url: http://127.0.0.1:{upstream}\n  routes:\n  - name: r\n    paths: [{path}]\n"
    )
}

fn status(port: u16, path: &str) -> u16 {
    exchange(port, format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).status
}

#[test]
fn a_node_in_the_background() {
    let place = Place::new(LISTEN);
    let (code, _, err) = place.run(&["health"]);
    assert!(code == 1 && err.contains("Tollgate is not running at "), "{err}");
    assert_eq!(place.run(&["stop"]).0, 1);
    let said = place.ok(&["start", "--daemon"]);
    assert!(said.ends_with("Tollgate started\n"), "{said}");
    assert_eq!(status(Place::port(&said, "proxy"), "/"), 404);
    let health = place.ok(&["health"]);
    assert!(
        health.ends_with(&format!("\n\nTollgate is healthy at {}\n", place.path().display())),
        "{health}"
    );
    for words in [&["start"][..], &["start", "--daemon"]] {
        let (code, _, err) = place.run(words);
        assert_eq!(code, 1);
        assert_eq!(err, format!("Error: Tollgate is already running in {}\n", place.path().display()));
    }
    let said = place.ok(&["restart"]);
    assert!(said.starts_with("Tollgate stopped\n") && said.ends_with("Tollgate started\n"), "{said}");
    assert_eq!(place.ok(&["quit"]), "Tollgate stopped (gracefully)\n");
    assert_eq!(place.run(&["health"]).0, 1);
    place.ok(&["start", "--daemon"]);
    assert_eq!(place.ok(&["stop"]), "Tollgate stopped\n");
}

#[test]
fn a_background_start_that_fails_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let place =
        Place::new(&format!("proxy_listen = 127.0.0.1:{port}\nadmin_listen = off\nstatus_listen = off\n"));
    let (code, _, err) = place.run(&["start", "--daemon"]);
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("Error: proxy_listen: cannot listen on 127.0.0.1:{port}: ")), "{err}");
    assert_eq!(place.run(&["health"]).0, 1);
}

#[test]
fn a_process_that_was_killed_leaves_nothing_in_the_way() {
    let place = Place::new(LISTEN);
    place.ok(&["start", "--daemon"]);
    let id = std::fs::read_to_string(place.path().join("pids/tollgate.pid")).unwrap();
    assert_eq!(run(std::process::Command::new("kill").args(["-9", &id])).0, 0);
    eventually("it is gone", || place.run(&["health"]).0 == 1);
    place.ok(&["start", "--daemon"]);
}

#[test]
fn quit_lets_requests_end_and_stop_does_not() {
    let upstream = Upstream::echo();
    let place = Place::new("");
    place.write("kong.yml", &declaration("/", upstream.port));
    let file = place.path().join("kong.yml");
    place.write(
        "tollgate.conf",
        &format!("{LISTEN}database = off\ndeclarative_config = {}\n", file.display()),
    );
    let port = Place::port(&place.ok(&["start", "--daemon"]), "proxy");
    let mut stream = connect(port);
    // A request of which the second half is to come.
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\na")
        .unwrap();
    eventually("the connection is taken", || status(port, "/") == 200);
    std::thread::scope(|scope| {
        let quit = scope.spawn(|| place.run(&["quit", "-t", "20"]));
        eventually("new connections are refused", || {
            std::net::TcpStream::connect(("127.0.0.1", port)).is_err()
        });
        stream.write_all(b"b").unwrap();
        assert_eq!(read_answer(&mut stream, false).status, 200);
        assert_eq!(quit.join().unwrap().1, "Tollgate stopped (gracefully)\n");
    });
    let port = Place::port(&place.ok(&["start", "--daemon"]), "proxy");
    let mut stream = connect(port);
    stream.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\na").unwrap();
    let (code, out, err) = place.run(&["quit", "-t", "0"]);
    assert_eq!((code, out.as_str()), (0, "Tollgate stopped\n"), "{err}");
    assert!(err.contains("are cut off"), "{err}");
}

#[test]
fn reload_takes_a_good_file_and_keeps_the_old_for_a_bad_one() {
    let upstream = Upstream::echo();
    let place = Place::new("");
    let file = place.path().join("kong.yml");
    let base = format!("{LISTEN}database = off\ndeclarative_config = {}\n", file.display());
    place.write("tollgate.conf", &base);
    place.write("kong.yml", &declaration("/one", upstream.port));
    let port = Place::port(&place.ok(&["start", "--daemon"]), "proxy");
    assert_eq!((status(port, "/one"), status(port, "/two")), (200, 404));

    place.write("kong.yml", &declaration("/two", upstream.port));
    assert_eq!(place.ok(&["reload"]), "Tollgate reloaded\n");
    assert_eq!((status(port, "/one"), status(port, "/two")), (404, 200));

    place.write("kong.yml", "_format_version: \"3.0\"\nservices:\n- name: s\n  port: x\n");
    let (code, _, err) = place.run(&["reload"]);
    assert_eq!(code, 1);
    assert!(
        err.starts_with("Error: the configuration stays as it was: error parsing declarative config file"),
        "{err}"
    );
    assert!(err.contains("kong.yml:4: services[1].port: expected an integer"), "{err}");
    assert_eq!(status(port, "/two"), 200);

    place.write("kong.yml", &declaration("/three", upstream.port));
    place.write("tollgate.conf", &format!("{base}headers = nonsense\n"));
    let (code, _, err) = place.run(&["reload"]);
    assert!(code == 1 && err.contains("nonsense"), "{err}");
    assert_eq!(status(port, "/two"), 200);

    // Settings of the servers change without a moment in which nobody listens.
    place.write("tollgate.conf", &format!("{base}headers = off\nserver_token = other\n"));
    let mut under_way = connect(port);
    under_way
        .write_all(b"POST /two HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\na")
        .unwrap();
    assert_eq!(status(port, "/two"), 200);
    place.ok(&["reload"]);
    let answer = exchange(port, b"GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, answer.header("server")), (404, None));
    assert_eq!(status(port, "/three"), 200);
    under_way.write_all(b"b").unwrap();
    assert_eq!(read_answer(&mut under_way, false).status, 200, "a request from before ends well");

    place.write("tollgate.conf", &base.replace("database = off", "database = sqlite"));
    let (code, _, err) = place.run(&["reload"]);
    assert!(code == 1 && err.contains("prefix and database cannot change while a node runs"), "{err}");
}

#[test]
fn reloads_under_load_lose_no_request() {
    let upstream = Upstream::echo();
    let place = Place::new("");
    let file = place.path().join("kong.yml");
    place.write("kong.yml", &declaration("/one", upstream.port));
    let base = format!(
        "{LISTEN}database = off\ndeclarative_config = {}\nnginx_worker_processes = 2\n",
        file.display()
    );
    place.write("tollgate.conf", &base);
    let port = Place::port(&place.ok(&["start", "--daemon"]), "proxy");
    let (done, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let answer = exchange(port, b"GET /one HTTP/1.1\r\nHost: a\r\n\r\n");
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let _ends_the_load = Done(&done);
        for round in 0..50 {
            place.write("tollgate.conf", &format!("{base}server_token = round-{round}\n"));
            let before = answered.load(Ordering::Relaxed);
            place.ok(&["reload"]);
            eventually("requests are answered", || answered.load(Ordering::Relaxed) > before);
        }
    });
}

/// Ends the load when dropped, so also where a reload fails.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn reload_keeps_the_store_and_what_is_served() {
    let place = Place::new(LISTEN);
    let said = place.ok(&["start", "--daemon"]);
    let (port, admin) = (Place::port(&said, "proxy"), Place::port(&said, "admin"));
    let put = |path: &str| {
        let body = serde_json::json!({"paths": [path]});
        let request = common::json_request("PUT", "/routes/r", Some(&body));
        assert_eq!(exchange(admin, &request).status, 200);
    };
    put("/one");
    eventually("the route is served", || status(port, "/one") == 503);
    place.write("tollgate.conf", &format!("{LISTEN}real_ip_header = X-Client\n"));
    place.ok(&["reload"]);
    assert_eq!(status(port, "/one"), 503);
    put("/two");
    eventually("changes after a reload are served", || status(port, "/two") == 503);
    assert_eq!(status(port, "/one"), 404);
}

#[test]
fn check_names_everything_that_is_wrong() {
    let place = Place::new("proxy_listen = nowhere\nnginx_worker_processes = many\nproxy_listn = x\n");
    let file = place.path().join("tollgate.conf").display().to_string();
    let (code, _, err) = place.run(&["check", &file]);
    assert_eq!(code, 1);
    assert!(
        err.contains(&format!(
            "Warning: {file}:3: the property 'proxy_listn' is not known; did you mean 'proxy_listen'?"
        )),
        "{err}"
    );
    assert!(err.contains(&format!("proxy_listen ({file}:1): 'nowhere' is no address")), "{err}");
    place.write("tollgate.conf", "database = off\ndeclarative_config = kong.yml\n");
    place.write("kong.yml", &declaration("/a", 1));
    assert_eq!(place.ok(&["check", &file]), format!("configuration at {file} is valid\n"));
    place.write("kong.yml", "_format_version: \"3.0\"\nservices:\n- nam: s\n");
    let (code, _, err) = place.run(&["check", &file]);
    assert!(code == 1 && err.contains("kong.yml:3: services[1].nam: unknown field"), "{err}");
    let (code, _, err) = place.run(&["check", "not-there.conf"]);
    assert!(code == 1 && err.starts_with("Error: not-there.conf: "), "{err}");
}

#[test]
fn declarative_files() {
    let place = Place::new("");
    place.ok(&["config", "init"]);
    assert_eq!(place.ok(&["config", "parse", "kong.yml"]), "parse successful\n");
    assert_eq!(place.run(&["config", "init"]).0, 1);
    place.write("bad.yml", "_format_version: \"3.0\"\nconsumers:\n- name: x\n");
    let (code, _, err) = place.run(&["config", "parse", "bad.yml"]);
    assert!(code == 1 && err.contains("bad.yml:3: consumers[1].name: unknown field"), "{err}");
    assert!(place.ok(&["config", "properties"]).contains("| `proxy_listen` |"));
}

#[test]
fn verbose_start_says_what_was_set_and_no_secret() {
    let place = Place::new(&format!("{LISTEN}admin_token = canary-7731\npg_host = db\n"));
    let (code, _, err) = place.run(&["start", "--daemon", "--v"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("admin_token = ****** ("), "{err}");
    assert!(err.contains("pg_host = db (") && err.contains(", without effect here)"), "{err}");
    assert!(!err.contains("canary-7731"), "{err}");
}

#[test]
fn versions_help_and_completions() {
    let place = Place::new("");
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(place.ok(&["version"]), format!("{version}\n"));
    assert!(place.ok(&["version", "-a"]).contains("key-auth"));
    assert!(place.ok(&["-v"]).contains(version));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(place.ok(&["completion", shell]).contains("quickstart"), "{shell}");
    }
    let (code, _, err) = place.run(&["strat"]);
    assert_eq!(code, 1);
    assert_eq!(
        err,
        "Error: unknown command \"strat\" for \"tollgate\"\nDid you mean 'start'?\nRun 'tollgate --help' for usage.\n"
    );
}

#[test]
fn a_quickstart_that_fails_says_how_to_mend_it_and_leaves_nothing() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let folder = tempfile::tempdir().unwrap();
    let (code, _, err) = run(Tollgate::command(folder.path(), &[]).args(["quickstart", "--port", &port]));
    assert_eq!(code, 1);
    assert!(err.starts_with(&format!("Error: proxy_listen: cannot listen on 127.0.0.1:{port}: ")), "{err}");
    assert!(err.ends_with("; choose a port with --port (0 for a free one)\n"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_prefix_that_cannot_be_made_is_told_with_the_mend() {
    let place = Place::new("prefix = tollgate.conf\nadmin_listen = off\nstatus_listen = off\n");
    let mut command = Tollgate::command(place.path(), &[("KONG_PREFIX", "tollgate.conf/prefix")]);
    let (code, _, err) = run(command.current_dir(place.path()).arg("start"));
    assert_eq!(code, 1);
    assert!(err.starts_with("Error: prefix: cannot make tollgate.conf/prefix/pids: "), "{err}");
    assert!(err.ends_with("; set it (--prefix, TOLLGATE_PREFIX) to a folder of yours\n"), "{err}");
}
