use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_780_000_000 + second).unwrap()
}

fn place() -> Place {
    Place { account: "111122223333".to_owned(), region: "eu-west-3".to_owned() }
}

fn row(id: &str, scan: &ScanId) -> SnapshotRow {
    SnapshotRow {
        id: id.to_owned(),
        scan: scan.clone(),
        instance_id: "i-1".to_owned(),
        volume_id: "vol-1".to_owned(),
        state: SnapshotState::Pending,
        seen: false,
        created: at(1),
        completed: None,
        deleted: None,
        gone: None,
    }
}

#[test]
fn many_may_make_it_at_once() {
    for _ in 0..20 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("stillframe/state.db");
        let barrier = std::sync::Barrier::new(6);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    barrier.wait();
                    StateStore::open(&path).unwrap();
                });
            }
        });
    }
}

#[test]
fn what_was_written_is_there_for_the_next_process_and_for_its_owner_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("stillframe/state.db");
    let scan = ScanId::random().unwrap();
    let intent = {
        let store = StateStore::open(&path).unwrap();
        store.begin_scan(&scan, &place(), "Acme", at(0)).unwrap();
        store.record(&[row("snap-1", &scan)]).unwrap();
        store.intend(&scan, "i-1", None, at(1)).unwrap()
    };
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let store = StateStore::open(&path).unwrap();
    assert_eq!(mode(&path.with_file_name("state.db-wal")), 0o600);
    assert_eq!(store.open_scans(&place()).unwrap().len(), 1);
    assert_eq!(store.open_scans(&Place { region: "eu-west-1".into(), ..place() }).unwrap(), []);
    assert_eq!(store.snapshots(&scan).unwrap(), [row("snap-1", &scan)]);
    let unknown = store.unknown_intents(&scan).unwrap();
    assert_eq!((unknown.len(), unknown[0].id, unknown[0].written), (1, intent, at(1)));
    store.settle(intent, IntentOutcome::Refused).unwrap();
    store.close_scan(&scan, at(9)).unwrap();
    assert_eq!(store.unknown_intents(&scan).unwrap(), []);
    assert_eq!(store.open_scans(&place()).unwrap(), []);
    assert_eq!(store.scan(&scan).unwrap().unwrap().closed, Some(at(9)));
}

#[test]
fn what_is_known_of_a_snapshot_only_grows() {
    let folder = tempfile::tempdir().unwrap();
    let store = StateStore::open(&folder.path().join("state.db")).unwrap();
    let scan = ScanId::random().unwrap();
    store.begin_scan(&scan, &place(), "Acme", at(0)).unwrap();
    let done = SnapshotRow {
        state: SnapshotState::Completed,
        seen: true,
        completed: Some(at(5)),
        deleted: Some(at(6)),
        ..row("snap-1", &scan)
    };
    store.record(std::slice::from_ref(&done)).unwrap();
    store
        .record(&[SnapshotRow { completed: Some(at(7)), gone: Some(at(8)), ..row("snap-1", &scan) }])
        .unwrap();
    store.record(&[row("snap-1", &scan)]).unwrap();
    let expected = SnapshotRow { state: SnapshotState::Pending, gone: Some(at(8)), ..done };
    assert_eq!(store.snapshots(&scan).unwrap(), [expected]);
}

/// As the first version left it, with a scan that it had not cleaned up after.
#[test]
fn a_store_of_an_older_version_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    let (old, new) = (ScanId::random().unwrap(), ScanId::random().unwrap());
    {
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(FIRST).unwrap();
        connection.pragma_update(None, "user_version", 1).unwrap();
        let columns = "INSERT INTO scans (id, account, region, begun) VALUES (?1, ?2, ?3, ?4)";
        let (place, begun) = (place(), at(0).to_string());
        connection.execute(columns, params![old.as_str(), place.account, place.region, begun]).unwrap();
        let columns = "INSERT INTO snapshots (id, scan, instance, volume, state, seen, created)
            VALUES ('snap-1', ?1, 'i-1', 'vol-1', 'pending', 0, ?2)";
        connection.execute(columns, params![old.as_str(), at(1).to_string()]).unwrap();
    }
    let store = StateStore::open(&path).unwrap();
    store.begin_scan(&new, &place(), "Acme", at(5)).unwrap();
    drop(store);
    let store = StateStore::open(&path).unwrap();
    let scans = store.open_scans(&place()).unwrap();
    let values: Vec<_> = scans.iter().map(|scan| (&scan.id, scan.created_by.as_deref())).collect();
    assert_eq!(values, [(&old, None), (&new, Some("Acme"))]);
    assert_eq!(store.snapshots(&old).unwrap(), [row("snap-1", &old)]);
    assert_eq!(store.created_by_values(&place()).unwrap(), BTreeSet::from(["Acme".to_owned()]));
    let elsewhere = Place { account: "999988887777".into(), ..place() };
    assert_eq!(store.created_by_values(&elsewhere).unwrap(), BTreeSet::new());
}

#[test]
fn a_newer_or_damaged_store_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let newer = folder.path().join("newer.db");
    Connection::open(&newer).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    let before = std::fs::read(&newer).unwrap();
    let error = StateStore::open(&newer).unwrap_err();
    assert!(matches!(error, StateError::Newer { found: 99, .. }), "{error}");
    assert_eq!(std::fs::read(&newer).unwrap(), before);

    let damaged = folder.path().join("damaged.db");
    std::fs::write(&damaged, [7; 8192]).unwrap();
    assert!(matches!(StateStore::open(&damaged), Err(StateError::Damaged { .. })));
    assert_eq!(std::fs::read(&damaged).unwrap(), [7; 8192]);
}

#[test]
fn two_processes_may_open_one_store_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let store = StateStore::open(&path).unwrap();
                let scan = ScanId::random().unwrap();
                store.begin_scan(&scan, &place(), "Acme", at(0)).unwrap();
            });
        }
    });
    assert_eq!(StateStore::open(&path).unwrap().open_scans(&place()).unwrap().len(), 8);
}
