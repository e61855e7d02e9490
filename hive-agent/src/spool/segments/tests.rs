use std::os::unix::fs::FileExt;

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_millis(1_761_849_000_000 + second * 1000).unwrap()
}

/// What does not compress, so that sizes are known.
fn entry(second: i64, length: usize) -> Entry {
    let mut random = fastrand::Rng::with_seed(second as u64);
    let json: Vec<u8> = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
    Entry { timestamp: at(second), json: json.into() }
}

fn entries(seconds: std::ops::Range<i64>) -> Vec<Entry> {
    seconds.map(|second| entry(second, 100)).collect()
}

fn limits(bytes: u64, age_s: u64) -> Limits {
    Limits { bytes, age: Duration::from_secs(age_s) }
}

fn open(directory: &Path) -> Segments {
    Segments::open(directory, limits(1 << 20, 3600)).unwrap()
}

fn write(segments: &mut Segments, seconds: std::ops::Range<i64>) {
    let (written, result) = segments.append(&entries(seconds.clone()));
    result.unwrap();
    assert_eq!(written as i64, seconds.end - seconds.start);
}

/// Takes everything out, so many at a time.
fn drain(segments: &mut Segments, lines: usize) -> Vec<Entry> {
    let mut drained = Vec::new();
    while let Some(portion) = segments.oldest(lines, usize::MAX, &BTreeSet::new()) {
        segments.remove(&portion);
        drained.extend(portion.entries);
    }
    drained
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "segment"))
        .collect();
    files.sort();
    files
}

fn size(directory: &Path) -> u64 {
    files(directory).iter().map(|file| file.metadata().unwrap().len()).sum()
}

#[test]
fn what_one_agent_wrote_the_next_one_reads() {
    let directory = tempfile::tempdir().unwrap();
    write(&mut open(directory.path()), 0..5);
    let mut segments = open(directory.path());
    assert_eq!(segments.len(), 5);
    write(&mut segments, 5..7);
    assert_eq!(files(directory.path()).len(), 2, "it never goes on in a file of another one");
    assert_eq!(drain(&mut segments, 3), entries(0..7));
    assert_eq!((segments.len(), files(directory.path()).len()), (0, 0));
    write(&mut segments, 7..8);
    assert_eq!(drain(&mut open_after(segments, directory.path()), 3), entries(7..8));
}

fn open_after(segments: Segments, directory: &Path) -> Segments {
    drop(segments);
    open(directory)
}

#[test]
fn a_portion_has_its_bounds_and_leaves_out_what_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let mut segments = open(directory.path());
    write(&mut segments, 0..6);
    let sent = BTreeSet::from([at(1), at(5)]);
    let portion = segments.oldest(2, usize::MAX, &sent).unwrap();
    assert_eq!(portion.entries, [entry(0, 100), entry(2, 100)]);
    segments.remove(&portion);
    let portion = segments.oldest(10, 0, &sent).unwrap();
    assert_eq!(portion.entries, [entry(3, 100)]);
    segments.remove(&portion);
    let portion = segments.oldest(10, 1000, &sent).unwrap();
    assert_eq!(portion.entries, [entry(4, 100)]);
    segments.remove(&portion);
    assert!(segments.oldest(10, 1000, &sent).is_none());
    assert_eq!(segments.len(), 0);
}

#[test]
fn a_second_agent_is_refused_until_the_first_has_ended() {
    let directory = tempfile::tempdir().unwrap();
    let first = open(directory.path());
    let error = Segments::open(directory.path(), limits(1, 1)).err().unwrap();
    assert!(error.to_string().starts_with("another agent uses the spool directory /"), "{error}");
    drop(first);
    open(directory.path());
}

#[test]
fn the_oldest_go_for_their_size_and_the_files_never_hold_more() {
    let directory = tempfile::tempdir().unwrap();
    let mut segments = Segments::open(directory.path(), limits(10_000, 3600)).unwrap();
    for second in 0..300 {
        write(&mut segments, second..second + 1);
        assert!(size(directory.path()) <= 10_000);
        assert_eq!(segments.len() + segments.lost.dropped, second as u64 + 1);
    }
    assert!(segments.len() > 60, "a little goes at a time: {}", segments.len());
    let first = 300 - segments.len() as i64;
    assert_eq!(drain(&mut segments, 1000), entries(first..300));
    let (done, result) = segments.append(&[entry(300, 20_000), entry(301, 100)]);
    result.unwrap();
    assert_eq!((done, segments.len()), (2, 1), "one alone is larger than the bound");
}

#[test]
fn the_oldest_go_for_their_age() {
    let directory = tempfile::tempdir().unwrap();
    let mut segments = Segments::open(directory.path(), limits(1 << 20, 240)).unwrap();
    write(&mut segments, 0..600);
    // In steps of a twenty-fourth of the age.
    assert!((240..=251).contains(&segments.len()), "{}", segments.len());
    segments.expire(at(100_000));
    assert_eq!((segments.len(), segments.lost.dropped), (0, 600));
    assert_eq!(files(directory.path()).len(), 0);
}

#[test]
fn damage_costs_only_what_it_hits() {
    let directory = tempfile::tempdir().unwrap();
    write(&mut open(directory.path()), 0..5);
    let [file] = &files(directory.path())[..] else { panic!("one file") };
    let record = size(directory.path()) / 5;
    let damaged = File::options().write(true).open(file).unwrap();
    damaged.write_all_at(b"damage", 2 * record + 30).unwrap();
    damaged.set_len(5 * record - 1).unwrap();
    fs::write(directory.path().join("0000000000000009.segment"), "no record at all").unwrap();
    fs::write(directory.path().join("note.txt"), "not ours").unwrap();

    let mut segments = open(directory.path());
    assert_eq!(segments.lost.unreadable_bytes, record + (record - 1) + 16);
    assert_eq!(segments.len(), 3);
    let expected = [entry(0, 100), entry(1, 100), entry(3, 100)];
    assert_eq!(drain(&mut segments, 2), expected);
    assert_eq!(files(directory.path()).len(), 0);
    assert!(directory.path().join("note.txt").exists());
}

#[test]
fn a_file_that_vanishes_or_rots_while_it_waits_holds_up_nothing() {
    let directory = tempfile::tempdir().unwrap();
    for start in [0, 5, 10] {
        write(&mut open(directory.path()), start..start + 5);
    }
    let mut segments = open(directory.path());
    let files = files(directory.path());
    fs::remove_file(&files[0]).unwrap();
    fs::write(&files[1], vec![0; 700]).unwrap();
    assert_eq!(drain(&mut segments, 100), entries(10..15));
    assert_eq!(segments.lost.dropped, 5, "those of the file that rotted");
}

#[test]
fn where_a_directory_cannot_be_made_that_is_the_error() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Segments::open(&file, limits(1, 1)).err().unwrap();
    assert!(error.to_string().contains("/file: File exists"), "{error}");
}
