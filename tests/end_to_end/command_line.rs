//! The program as a person or a script calls it: errors with hints, exit codes, files, pipes, terminals.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]
#![allow(clippy::indexing_slicing, reason = "small texts")]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::disks::tool;
use crate::harness::Place;

const IMAGE: &str = "gpt-named-root";

/// An error is two lines on standard error, exit code 2, and nothing on standard output.
#[track_caller]
fn assert_refused(output: &Output, error: &str, hint: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    let lines: Vec<_> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(lines[0].starts_with("error: ") && lines[0].contains(error), "{stderr}");
    assert!(lines[1].starts_with("hint: ") && lines[1].contains(hint), "{stderr}");
}

#[test]
fn what_is_no_disk_gets_an_error_and_a_hint() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    tool("mkfifo", &[place.path("fifo").to_str().unwrap()]);
    for command in [&["scan", "image"][..], &["layout"], &["files"]] {
        let refused = |path: &Path, error: &str, hint: &str| {
            assert_refused(&place.run(command, &[path]), error, hint);
            // The second disk of a machine is no less needed than the first.
            assert_refused(&place.run(command, &[&image, path]), error, hint);
        };
        refused(&place.path("none.img"), "none.img does not exist", "check the path");
        refused(&place.path(""), "is a directory, not a disk image", "raw disk image");
        refused(&place.path("fifo"), "is a pipe", "raw disk image");
        refused(Path::new("/dev/null"), "character device", "raw disk image");
        refused(&image.join("below"), "cannot be read", "permissions");
    }
}

#[test]
fn a_file_that_may_not_be_read_gets_an_error_and_a_hint() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    fs::set_permissions(&image, Permissions::from_mode(0o000)).unwrap();
    let output = if fs::File::open(&image).is_err() {
        place.run(&["scan", "image"], &[&image])
    } else {
        // Root may read everything: the program is run as nobody, from copies that nobody may reach.
        let program = place.path("stillframe");
        fs::copy(env!("CARGO_BIN_EXE_stillframe"), &program).unwrap();
        fs::set_permissions(place.path(""), Permissions::from_mode(0o755)).unwrap();
        fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
        Command::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .arg(&program)
            .args(["scan", "image"])
            .arg(&image)
            .output()
            .unwrap()
    };
    assert_refused(&output, "cannot be read: Permission denied", "check its permissions");
}

#[test]
fn a_command_line_that_is_wrong_gets_an_error_and_a_hint() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    let refused = |arguments: &[&str], error: &str, hint: &str| {
        assert_refused(&place.run(arguments, &[&image]), error, hint);
    };
    refused(&["scan", "image", "--nonsense"], "unexpected argument '--nonsense'", "");
    refused(&["scan", "image", "--format", "pdf"], "invalid value 'pdf'", "--help");
    refused(&["scan", "image", "--scanners", "inventory,ghosts"], "invalid value 'ghosts'", "--help");
    refused(&["scan", "image", "--fail-on", "awful"], "invalid value 'awful'", "--help");
    refused(&["scan", "image", "--cache", "1"], "invalid value '1'", "--help");
    refused(&["scan", "image", "--colour", "always"], "unexpected argument '--colour'", "--color");
    refused(&["files", "--hash", "md5"], "invalid value 'md5'", "--help");
    refused(&["scam", "image"], "unrecognized subcommand 'scam'", "scan");
    for arguments in [&["scan", "image"][..], &["layout"], &["files"]] {
        assert_refused(
            &place.run(arguments, &[]),
            "required arguments were not provided: <PATH>...",
            "--help",
        );
    }
    // Every format, scanner and severity that there is is named where another was asked for.
    let output = place.run(&["scan", "image", "--format", "pdf"], &[&image]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    for format in ["table", "json", "jsonl", "cyclonedx"] {
        assert!(stderr.contains(format), "{stderr}");
    }
}

#[test]
fn no_command_is_an_error_that_says_where_help_is() {
    let place = Place::new();
    for arguments in [&[][..], &["scan"]] {
        assert_refused(&place.run(arguments, &[]), "", "--help");
    }
}

#[test]
fn a_report_file_is_whole_and_its_owners() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    let report = place.path("report.json");
    let arguments = ["scan", "image", "--format", "json", "--output", report.to_str().unwrap()];
    let output = place.run(&arguments, &[&image]);
    assert!(output.stdout.is_empty());
    let first: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_eq!(fs::metadata(&report).unwrap().permissions().mode() & 0o7777, 0o600);

    // An older one that others could read is replaced, not written into.
    fs::set_permissions(&report, Permissions::from_mode(0o644)).unwrap();
    place.run(&arguments, &[&image]);
    let second: Value = serde_json::from_slice(&fs::read(&report).unwrap()).unwrap();
    assert_ne!(first["scan"]["id"], second["scan"]["id"]);
    assert_eq!(fs::metadata(&report).unwrap().permissions().mode() & 0o7777, 0o600);
    let left: Vec<_> =
        fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");

    // To a pipe that is named as a file.
    let arguments = ["scan", "image", "--format", "json", "--output", "/dev/stdout"];
    let output = place.run(&arguments, &[&image]);
    assert!(serde_json::from_slice::<Value>(&output.stdout).is_ok());
}

#[test]
fn a_report_that_cannot_be_written_leaves_the_old_one_whole() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    let old = place.path("old.json");
    fs::write(&old, "the old report").unwrap();
    // A file cannot be a folder, and a limit on the length of files stops a report in its middle, for root too.
    let refused =
        place.run(&["scan", "image", "--output", &format!("{}/new.json", old.display())], &[&image]);
    assert_refused(&refused, "the report cannot be written to", "check that the folder exists");
    // What is renamed onto a folder fails at the very end.
    fs::create_dir(place.path("folder")).unwrap();
    let folder = place.path("folder");
    let output = place.run(&["scan", "image", "--output", folder.to_str().unwrap()], &[&image]);
    assert_refused(&output, "the report cannot be written to", "--output names another file");
    let stopped = place
        .limited("trap '' XFSZ; ulimit -f 1 && exec \"$0\" \"$@\"")
        .args(["scan", "image", "--format", "json", "--output", "old.json"])
        .env("XDG_STATE_HOME", place.path("state"))
        .arg(&image)
        .output()
        .unwrap();
    assert_refused(&stopped, "the report cannot be written to old.json", "has room");
    assert_eq!(fs::read_to_string(&old).unwrap(), "the old report");
    let left: Vec<_> =
        fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "{left:?}");
}

#[test]
fn quiet_is_quiet() {
    let place = Place::new();
    for name in [IMAGE, "luks", "ext3-dirty"] {
        let image = place.golden(name);
        for command in [&["scan", "image", "--quiet"][..], &["layout", "-q"]] {
            let output = place.run(command, &[&image]);
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{command:?} {name}");
            assert!(!output.stdout.is_empty());
        }
    }
}

#[test]
fn a_pipe_that_closes_early_is_no_error() {
    let place = Place::new();
    let image = place.golden("ext4-htree");
    for arguments in
        [&["files", "--hash", "sha256"][..], &["scan", "image", "--format", "jsonl"], &["layout"]]
    {
        let mut child = place
            .stillframe()
            .args(arguments)
            .arg(&image)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::with_capacity(64, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let output = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!line.is_empty() && !stderr.contains("error:"), "{arguments:?}: {stderr}");
        assert!(matches!(output.status.code(), Some(0 | 2)), "{arguments:?}: {:?}", output.status);
    }
}

#[test]
fn several_images_are_the_disks_of_one_machine() {
    let place = Place::new();
    let images = [place.golden("debian-gpt-ext4"), place.golden("xfs-1k"), place.golden("swap-partition")];
    let images = images.each_ref().map(|image| image.as_path());
    let output = place.run(&["scan", "image", "--format", "json"], &images);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let names: Vec<_> =
        report["coverage"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    for name in ["disk0", "disk1", "disk2"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(report["machine"]["os"]["id"], "debian");
    let listed = String::from_utf8(place.run(&["files"], &images).stdout).unwrap();
    for prefix in ["disk0/p1\t", "disk1\t"] {
        assert!(listed.lines().any(|line| line.starts_with(prefix)), "{prefix}");
    }
}

fn row_of<'r>(report: &'r Value, kind: &str, name: &str) -> Option<&'r Value> {
    report["coverage"].as_array().unwrap().iter().find(|row| row["kind"] == kind && row["name"] == name)
}

#[test]
fn what_is_excluded_is_not_read_and_said() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    let (report, _) = place.scan(&image);
    let volume =
        report["coverage"].as_array().unwrap().iter().find(|row| row["kind"] == "filesystem").unwrap();
    let name = volume["name"].as_str().unwrap();
    let output = place.run(&["scan", "image", "--format", "json", "--exclude", name], &[&image]);
    let excluded: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(row_of(&excluded, "filesystem", name).is_none());
    let row = row_of(&excluded, "partition", name).unwrap();
    assert_eq!((&row["status"], &row["reason"]), (&"skipped".into(), &"excluded".into()));
    assert_eq!(excluded["io"]["entries"], 0);
}

#[test]
fn exit_codes_say_whether_the_scan_is_complete() {
    let place = Place::new();
    for (name, code) in [("debian-gpt-ext4", 0), ("amazon-shape", 0), ("luks", 2), ("unknown-content", 2)] {
        let (report, found) = place.scan(&place.golden(name));
        assert_eq!((found, &report["scan"]["complete"]), (code, &(code == 0).into()), "{name}");
        let output =
            place.run(&["scan", "image", "--fail-on", "info", "-q"], &[&place.path(&format!("{name}.img"))]);
        // No scanner makes findings yet; none is at or above the threshold.
        assert_eq!(output.status.code(), Some(code), "{name}");
    }
}

#[test]
fn completions_manual_version_and_help() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        let output = place.run(&["completions", shell], &[]);
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success() && script.contains("stillframe") && script.contains("layout"),
            "{shell}"
        );
    }
    let folder = place.path("man/pages");
    assert!(place.run(&["man"], &[&folder]).status.success());
    let pages: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    for page in [
        "stillframe.1",
        "stillframe-scan.1",
        "stillframe-scan-image.1",
        "stillframe-layout.1",
        "stillframe-files.1",
    ] {
        assert!(pages.iter().any(|name| name == page), "{pages:?}");
        assert!(fs::read_to_string(folder.join(page)).unwrap().contains(".TH"), "{page}");
    }
    let version = String::from_utf8(place.run(&["--version"], &[]).stdout).unwrap();
    assert_eq!(version.trim(), format!("stillframe {}", env!("CARGO_PKG_VERSION")));
    let blocked = place.run(&["man"], &[&place.golden(IMAGE).join("x")]);
    assert_refused(&blocked, "cannot be", "");
}

#[test]
fn help_fits_100_columns_and_names_every_option() {
    let place = Place::new();
    let commands: [&[&str]; 7] =
        [&[], &["scan"], &["scan", "image"], &["layout"], &["files"], &["completions"], &["man"]];
    for command in commands {
        for flag in ["--help", "-h"] {
            let output = place.run(&[command, &[flag]].concat(), &[]);
            assert!(output.status.success() && output.stderr.is_empty(), "{command:?}");
            let help = String::from_utf8(output.stdout).unwrap();
            for line in help.lines() {
                assert!(line.chars().count() <= 100, "{command:?}: {line}");
            }
            assert!(help.contains("Usage: stillframe"), "{help}");
        }
    }
    let help = String::from_utf8(place.run(&["scan", "image", "--help"], &[]).stdout).unwrap();
    for option in [
        "--format",
        "--output",
        "--scanners",
        "--fail-on",
        "--exclude",
        "--show-user-paths",
        "--fingerprint-key-file",
        "--list-packages",
        "--cache",
        "--volume-deadline",
        "--quiet",
        "--log-format",
        "--color",
    ] {
        assert!(help.contains(option), "{option}");
    }
}

#[test]
fn colour_is_for_terminals_and_for_who_asks() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    let is_coloured = |output: &Output| output.stdout.contains(&0x1b);
    assert!(!is_coloured(&place.run(&["scan", "image"], &[&image])));
    assert!(is_coloured(&place.run(&["scan", "image", "--color", "always"], &[&image])));
    assert!(!is_coloured(&place.run(&["scan", "image", "--color", "never"], &[&image])));
    let on_terminal = |environment: &str, options: &str| {
        let inner = format!(
            "{environment} {} scan image {options} {}",
            env!("CARGO_BIN_EXE_stillframe"),
            image.display()
        );
        typed(&place, &inner)
    };
    // `script` gives one stream; what moves the progress line about is no colour.
    let has_colour =
        |shown: &str| shown.contains("\x1b[1m") || shown.contains("\x1b[3") || shown.contains("\x1b[0;3");
    assert!(has_colour(&on_terminal("", "--quiet")));
    assert!(!has_colour(&on_terminal("NO_COLOR=1", "--quiet")));
    assert!(!has_colour(&on_terminal("", "--quiet --color never")));
}

/// What a terminal shows of a command.
fn typed(place: &Place, command: &str) -> String {
    let output = Command::new("script")
        .args(["-q", "-c", command, "/dev/null"])
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap())
        .env("TERM", "xterm-256color")
        .env("XDG_STATE_HOME", place.path("state"))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_terminal_sees_progress_and_a_pipe_does_not() {
    let place = Place::new();
    let image = place.golden("ext4-large-dir");
    let command = format!("{} scan image {}", env!("CARGO_BIN_EXE_stillframe"), image.display());
    let shown = typed(&place, &command);
    // The spinner. What stands beside it depends on how fast this machine is.
    let moves = |text: &str| text.chars().any(|letter| ('\u{2801}'..='\u{28ff}').contains(&letter));
    assert!(moves(&shown), "{shown}");
    assert!(!moves(&typed(&place, &format!("{command} --quiet"))));
    let output = place.run(&["scan", "image"], &[&image]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn log_lines_are_json_where_asked_for() {
    let place = Place::new();
    let output = place.run(&["scan", "image", "-vv", "--log-format", "json"], &[&place.golden(IMAGE)]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(!stderr.is_empty());
    for line in stderr.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
}

#[test]
fn without_a_state_directory_a_key_must_be_given() {
    let place = Place::new();
    let image = place.golden(IMAGE);
    let run = |arguments: &[&str]| {
        let mut command = place.stillframe();
        command.env_remove("XDG_STATE_HOME").args(["scan", "image"]).args(arguments).arg(&image);
        command.output().unwrap()
    };
    assert_refused(&run(&[]), "there is no state directory", "--fingerprint-key-file");
    let key = place.path("key");
    fs::write(&key, "0f".repeat(32)).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let given = ["--fingerprint-key-file", key.to_str().unwrap()];
    assert_refused(&run(&given), "others than you can read", "chmod 600");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    assert!(matches!(run(&given).status.code(), Some(0 | 2)) && !run(&given).stdout.is_empty());
    fs::write(&key, "0f".repeat(31)).unwrap();
    assert_refused(&run(&given), "holds no fingerprint key", "64 hexadecimal digits");
}
