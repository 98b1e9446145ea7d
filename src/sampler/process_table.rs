//! Which processes of the machine belong to a worker.

use std::collections::{HashMap, HashSet};

use sysinfo::System;

/// A process, as far as it tells to whom it belongs.
#[derive(Debug, Clone, Copy)]
pub struct Listed {
    pub pid: u32,
    pub parent: u32,
    /// The process group, where there are groups.
    pub group: Option<u32>,
}

/// The processes of each worker: itself, its descendants, and those of its process group. Each worker leads a
/// group of its own. Wine starts programs as children of another process, but in the group.
pub fn families(processes: &[Listed], workers: &[u32]) -> Vec<Vec<u32>> {
    let parents: HashMap<u32, u32> =
        processes.iter().map(|process| (process.pid, process.parent)).collect();
    let belongs = |process: &Listed, worker: u32| {
        if process.group == Some(worker) {
            return true;
        }
        // A table that was read while processes came and went may have a circle.
        let mut seen = HashSet::new();
        let mut at = process.pid;
        while at != worker {
            match parents.get(&at) {
                Some(parent) if seen.insert(at) => at = *parent,
                _ => return false,
            }
        }
        true
    };
    let family = |worker: &u32| {
        let members = processes.iter().filter(|process| belongs(process, *worker));
        members.map(|process| process.pid).collect()
    };
    workers.iter().map(family).collect()
}

/// Every process of the machine.
///
/// # Errors
/// If the system does not list them.
#[cfg(target_os = "linux")]
pub fn processes(_system: &mut System) -> Result<Vec<Listed>, String> {
    let entries = std::fs::read_dir("/proc").map_err(|fault| format!("/proc: {fault}"))?;
    let stats = entries.filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        // One that has ended meanwhile is none any more.
        listed(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    });
    Ok(stats.collect())
}

/// Reads a line of `/proc/PID/stat`, in which the program's name may have spaces and parentheses.
#[cfg(target_os = "linux")]
fn listed(pid: u32, stat: &str) -> Option<Listed> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    Some(Listed { pid, parent, group: Some(group) })
}

/// Every process of the machine.
///
/// # Errors
/// If the system does not list them.
#[cfg(not(target_os = "linux"))]
pub fn processes(system: &mut System) -> Result<Vec<Listed>, String> {
    use sysinfo::{ProcessRefreshKind, ProcessesToUpdate};

    let nothing = ProcessRefreshKind::nothing();
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, nothing);
    let listed = system.processes().values().map(|process| {
        // The number of a parent that has ended may be that of another process by now.
        let parent = process.parent().filter(|parent| {
            let parent = system.process(*parent);
            parent.is_some_and(|parent| parent.start_time() <= process.start_time())
        });
        let parent = parent.map_or(0, sysinfo::Pid::as_u32);
        Listed { pid: process.pid().as_u32(), parent, group: None }
    });
    let listed: Vec<Listed> = listed.collect();
    if listed.is_empty() { Err("no process is visible".to_owned()) } else { Ok(listed) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workers_processes_are_its_descendants_and_its_group() {
        let listed = |pid, parent, group| Listed { pid, parent, group: Some(group) };
        let processes = [
            listed(1, 0, 1),
            listed(10, 1, 10),
            // A worker, its child, and that one's child in another group.
            listed(20, 10, 20),
            listed(21, 20, 20),
            listed(22, 21, 22),
            // Started by Wine, which gives it to the first process.
            listed(23, 1, 20),
            // Another worker.
            listed(30, 10, 30),
            // A circle.
            listed(40, 41, 40),
            listed(41, 40, 40),
        ];
        let expected = [vec![20, 21, 22, 23], vec![30], vec![]];
        assert_eq!(families(&processes, &[20, 30, 50]), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_name_of_a_program_may_look_like_the_fields_behind_it() {
        let stat = "7 (a) 1 2 (b)) S 3 4 5 0 -1 4194560 1 2";
        let process = listed(7, stat).unwrap();
        assert_eq!((process.pid, process.parent, process.group), (7, 3, Some(4)));
        let own = processes(&mut System::new().unwrap()).unwrap();
        assert!(own.iter().any(|process| process.pid == std::process::id()));
    }
}
