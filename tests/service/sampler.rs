//! The sampler on a machine whose parts fail, hang, and come and go.

#![cfg(target_os = "linux")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Gateway, metric};

const OFTEN: &str = "[metrics]\nsampler_interval = '20ms'\n\
                     rate_limit_per_second = 10_000\nrate_limit_burst = 10_000\n";
const ROOM: &str = "system_disk_free_bytes";
const SAMPLES: &str = "gateway_sampler_duration_seconds_count";
const LAST_SUCCESS: &str = "gateway_sampler_last_success_timestamp_seconds";
const ERRORS: &str = r#"gateway_sampler_errors_total{group="disk"}"#;

/// The library of `faults.c`, to be preloaded.
pub fn faults_library() -> &'static Path {
    static LIBRARY: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, library) = LIBRARY.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let library = directory.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/common/faults.c");
        let built = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-D_LARGEFILE64_SOURCE", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(built.unwrap().success());
        (directory, library)
    });
    library
}

/// Faults of the system that a gateway meets, see `faults.c`.
struct Faults(tempfile::TempDir);

impl Faults {
    fn new() -> Faults {
        Faults(tempfile::tempdir().unwrap())
    }

    /// Starts a gateway and waits until it is ready.
    fn ready(&self, settings: &str) -> Gateway {
        let library = faults_library();
        let gateway = Gateway::start_with(
            settings,
            &[
                ("LD_PRELOAD", library.to_str().unwrap()),
                ("FAULTS", self.0.path().to_str().unwrap()),
            ],
        );
        gateway.wait_ready();
        gateway
    }

    fn at(&self, fault: &str) -> PathBuf {
        self.0.path().join(fault)
    }

    fn begin(&self, fault: &str) {
        std::fs::write(self.at(fault), "").unwrap();
    }

    fn end(&self, fault: &str) {
        std::fs::remove_file(self.at(fault)).unwrap();
    }

    /// Makes a gateway that opens a path read this text.
    fn replace(&self, path: &str, text: &str) {
        let whole = self.at("next");
        std::fs::write(&whole, text).unwrap();
        std::fs::rename(whole, self.at(&format!("{}.file", path.replace('/', "_")))).unwrap();
    }
}

/// The values of a family's series. They are removed while a source fails.
fn series(gateway: &Gateway, family: &str) -> Vec<String> {
    let metrics = gateway.metrics();
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines.filter(|line| line.starts_with(family)).map(str::to_owned).collect()
}

fn has(gateway: &Gateway, family: &str) -> bool {
    !series(gateway, family).is_empty()
}

/// Waits for so many further samples.
fn samples(gateway: &Gateway, count: f64) {
    let wanted = gateway.metric(SAMPLES) + count;
    gateway
        .eventually("the machine is sampled", || (gateway.metric(SAMPLES) >= wanted).then_some(()));
}

fn lines(gateway: &Gateway, what: &str) -> usize {
    gateway.log().matches(what).count()
}

#[test]
fn a_failing_source_is_counted_shows_no_stale_value_and_delays_no_other() {
    const ALL: [(&str, &str); 4] = [
        ("cpu", "system_cpu_usage_ratio"),
        ("memory", "system_memory_used_bytes"),
        ("disk", ROOM),
        ("process", "process_resident_memory_bytes"),
    ];
    let faults = Faults::new();
    let gateway = faults.ready(OFTEN);
    for (group, family) in ALL {
        assert!(has(&gateway, family), "{group}");
    }
    for (group, family, fault) in [
        ("cpu", "system_cpu_usage_ratio", "_proc_stat.fail"),
        ("memory", "system_memory_used_bytes", "_proc_meminfo.fail"),
        ("memory", "system_memory_total_bytes", "_proc_meminfo.hang"),
        ("disk", ROOM, "statvfs.fail"),
        ("disk", "system_disk_size_bytes", "statvfs.hang"),
        ("disk", ROOM, "_proc_self_mountinfo.fail"),
        ("process", "process_cpu_seconds_total", "_proc_self_fd.fail"),
        ("process", "process_threads", "_proc_self_fd.hang"),
    ] {
        let errors = format!("gateway_sampler_errors_total{{group=\"{group}\"}}");
        let before = gateway.metric(&errors);
        let [fails, works] = ["source failed", "source works again"].map(|what| {
            let told = format!("{what} actor=\"sampler\" group=\"{group}\"");
            (lines(&gateway, &told), told)
        });
        faults.begin(fault);
        gateway.eventually(fault, || (!has(&gateway, family)).then_some(()));
        let last = gateway.metric(LAST_SUCCESS);
        let counted = gateway.metric(&errors);
        assert!(counted > before, "{fault}");
        samples(&gateway, 10.0);
        assert!(gateway.metric(&errors) >= counted + 9.0, "{fault} counts at each tick");
        assert_eq!(gateway.metric(LAST_SUCCESS), last, "{fault}: not everything is measured");
        for (other, family) in ALL {
            assert_eq!(has(&gateway, family), other != group, "{fault}: {family}");
        }
        let shown = gateway.get("/api/v1/console").json();
        for (figure, of) in [("cpu_usage_ratio", "cpu"), ("memory_used_bytes", "memory")] {
            assert_eq!(shown["metrics"][figure].is_null(), of == group, "{fault}: {shown}");
        }
        gateway.logs(&fails.1);
        assert_eq!(lines(&gateway, &fails.1), fails.0 + 1, "{fault} is told once");
        assert_eq!(lines(&gateway, &works.1), works.0, "{fault}");

        faults.end(fault);
        gateway.eventually("everything works again", || {
            (gateway.metric(LAST_SUCCESS) > last && has(&gateway, family)).then_some(())
        });
        gateway.logs(&works.1);
        samples(&gateway, 3.0);
        assert_eq!(lines(&gateway, &fails.1), fails.0 + 1, "{fault} is told once");
        assert_eq!(lines(&gateway, &works.1), works.0 + 1, "{fault} is told once");
    }
}

#[test]
fn readiness_does_not_wait_for_a_failing_source() {
    for fault in ["statvfs.hang", "statvfs.fail", "_proc_meminfo.hang", "_proc_stat.fail"] {
        let faults = Faults::new();
        faults.begin(fault);
        let gateway = faults.ready(OFTEN);
        assert!(!has(&gateway, LAST_SUCCESS), "{fault}");
        assert!(gateway.metrics().contains("process_resident_memory_bytes "), "{fault}");
        faults.end(fault);
        gateway.eventually("everything works", || has(&gateway, LAST_SUCCESS).then_some(()));
    }
}

#[test]
fn a_hanging_source_holds_one_thread() {
    let faults = Faults::new();
    let gateway = faults.ready(OFTEN);
    faults.begin("statvfs.hang");
    gateway.eventually("the file system hangs", || (!has(&gateway, ROOM)).then_some(()));
    let threads = gateway.metric("process_threads");
    samples(&gateway, 100.0);
    let later = gateway.metric("process_threads");
    assert!(later <= threads + 4.0, "{threads} threads became {later}");
}

#[test]
fn only_the_configured_mounts_are_touched_each_on_its_own() {
    let faults = Faults::new();
    let gateway = faults.ready(&format!("{OFTEN}disks = ['/', '/proc', '/nowhere', '/etc']\n"));
    let mounts = || {
        let series = series(&gateway, "system_disk_size_bytes");
        series.iter().map(|line| line.split('"').nth(1).unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(mounts(), ["/", "/proc"], "only mount points are reported");
    gateway.logs(r#"group="disk" name="/nowhere" reason="nothing is mounted at /nowhere""#);
    gateway.logs(r#"group="disk" name="/etc" reason="nothing is mounted at /etc""#);
    for fault in ["statvfs_proc.hang", "statvfs_proc.fail"] {
        faults.begin(fault);
        gateway.eventually(fault, || (mounts() == ["/"]).then_some(()));
        // Both of one scrape, because a sample may fall between two.
        let counted = || {
            let metrics = gateway.metrics();
            (metric(&metrics, ERRORS), metric(&metrics, SAMPLES))
        };
        let (errors, count) = counted();
        samples(&gateway, 10.0);
        let (later_errors, later_count) = counted();
        let (errors, count) = (later_errors - errors, later_count - count);
        assert!(errors >= 2.9 * count, "{errors} errors of three mounts in {count} samples");
        faults.end(fault);
        gateway.eventually("it works again", || (mounts() == ["/", "/proc"]).then_some(()));
    }
    let asked = std::fs::read_to_string(faults.at("asked.log")).unwrap();
    assert_eq!(asked.lines().collect::<BTreeSet<_>>(), ["/", "/proc"].into());
}

#[test]
fn mounts_of_every_kind_are_looked_up_at_each_sample() {
    let faults = Faults::new();
    let root = "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n";
    faults.replace("/proc/self/mountinfo", root);
    let gateway = faults.ready(OFTEN);
    let directory = gateway.directory.path().canonicalize().unwrap();
    let shows = |mountpoint: &str| {
        let expected = format!("{ROOM}{{mountpoint=\"{mountpoint}\"}} ");
        gateway.eventually(&expected, || {
            let series = series(&gateway, ROOM);
            (series.len() == 1 && series[0].starts_with(&expected)).then_some(())
        });
    };
    shows("/");
    for kind in ["nfs4", "cifs", "tmpfs", "overlay", "fuse.sshfs"] {
        let mount = format!("90 27 0:47 / {} rw shared:1 - {kind} x rw\n", directory.display());
        faults.replace("/proc/self/mountinfo", &format!("{root}{mount}"));
        shows(directory.to_str().unwrap());
        faults.replace("/proc/self/mountinfo", root);
        shows("/");
    }
    faults.replace("/proc/self/mountinfo", "");
    gateway.eventually("no file system is known", || (!has(&gateway, ROOM)).then_some(()));
    gateway.logs("no mount point holds");
}

#[test]
fn the_working_directory_may_be_on_a_file_system_in_memory() {
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let gateway = Gateway::start_in(directory, OFTEN, &[]);
    gateway.wait_ready();
    let series = series(&gateway, "system_disk_size_bytes");
    assert_eq!(series.len(), 1);
    let of_memory = "system_disk_size_bytes{mountpoint=\"/dev/shm\"}";
    let output = Command::new("df").args(["-B1", "--output=size", "/dev/shm"]).output().unwrap();
    let size = String::from_utf8(output.stdout).unwrap();
    let size: f64 = size.lines().nth(1).unwrap().trim().parse().unwrap();
    assert_eq!(gateway.metric(of_memory), size);
}

#[test]
fn the_memory_limit_is_that_of_the_control_group() {
    const LIMIT: &str = "system_memory_limit_bytes";
    let limit = 64.0 * 1024.0 * 1024.0;
    let faults = Faults::new();
    // A service below a limited group, with the second version of control groups.
    faults.replace("/proc/self/cgroup", "0::/limited.slice/gateway.service\n");
    faults.replace(
        "/proc/self/mountinfo",
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n31 27 0:28 / /groups rw - cgroup2 cgroup2 rw\n",
    );
    for (file, text) in [
        ("cgroup.controllers", "memory"),
        ("limited.slice/memory.max", "67108864\n"),
        ("limited.slice/memory.current", "4096\n"),
        ("limited.slice/gateway.service/memory.max", "max\n"),
        ("limited.slice/gateway.service/memory.current", "4096\n"),
        ("limited.slice/gateway.service/memory.stat", "anon 4096\n"),
    ] {
        faults.replace(&format!("/groups/{file}"), text);
    }
    let gateway = faults.ready(OFTEN);
    assert_eq!(gateway.metric(LIMIT), limit);
    faults.replace("/groups/limited.slice/memory.max", "max\n");
    gateway.eventually("the limit is lifted", || (!has(&gateway, LIMIT)).then_some(()));

    // The first version, whose "no limit" is a large number.
    faults.replace("/proc/self/cgroup", "4:memory:/gateway\n0::/\n");
    faults.replace(
        "/proc/self/mountinfo",
        "27 1 254:0 / / rw - ext4 /dev/vda rw\n35 27 0:32 / /groups rw - cgroup cgroup rw,memory\n",
    );
    for (file, text) in [
        ("memory.limit_in_bytes", "9223372036854771712\n"),
        ("memory.usage_in_bytes", "4096\n"),
        ("gateway/memory.limit_in_bytes", "67108864\n"),
        ("gateway/memory.usage_in_bytes", "4096\n"),
        ("gateway/memory.stat", "total_rss 4096\n"),
    ] {
        faults.replace(&format!("/groups/{file}"), text);
    }
    gateway.eventually("there is a limit", || (gateway.metric(LIMIT) == limit).then_some(()));
    faults.replace("/groups/gateway/memory.limit_in_bytes", "9223372036854771712\n");
    gateway.eventually("the limit is lifted", || (!has(&gateway, LIMIT)).then_some(()));
    assert_eq!(gateway.metric(r#"gateway_sampler_errors_total{group="memory"}"#), 0.0);
}
