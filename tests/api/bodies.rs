//! What a body may be: its type, its encoding, its size.

use std::io::Write;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::Queen;
use crate::support::client::{GZIP, JSON, ZSTD};
use crate::support::heartbeat::{example, heartbeat, now_ms, wire};
use crate::support::queen::ack;

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// A heartbeat of exactly so many bytes.
fn padded(len: usize) -> Vec<u8> {
    let mut body = heartbeat("h", now_ms()).to_string().into_bytes();
    body.resize(len, b' ');
    body
}

const MAX: usize = 8 << 20;

#[test]
fn gzip_and_zstd_are_read() {
    let queen = Queen::start();
    let body = example(&wire(now_ms()));
    let first = ack(&queen.post_bytes(&gzip(body.as_bytes()), &[JSON, GZIP]));
    assert!(!first.duplicate);
    for (encoded, encoding) in [(zstd(body.as_bytes()), "zstd"), (gzip(body.as_bytes()), "GZip")] {
        let again = ack(&queen.post_bytes(&encoded, &[JSON, ("content-encoding", encoding)]));
        assert_eq!((again.id, again.duplicate), (first.id, true), "{encoding}");
    }
    let plain = [JSON, ("content-encoding", "identity")];
    assert!(ack(&queen.post_bytes(body.as_bytes(), &plain)).duplicate);
}

#[test]
fn streams_of_several_members_are_read_whole() {
    let queen = Queen::start();
    let body = example(&wire(now_ms())).into_bytes();
    let (head, tail) = body.split_at(body.len() / 2);
    let members = [gzip(head), gzip(tail)].concat();
    assert!(!ack(&queen.post_bytes(&members, &[JSON, GZIP])).duplicate);
    let frames = [zstd(head), zstd(tail)].concat();
    assert!(ack(&queen.post_bytes(&frames, &[JSON, ZSTD])).duplicate);
}

#[test]
fn a_broken_compressed_body_is_malformed() {
    let queen = Queen::start();
    let body = example(&wire(now_ms()));
    for (encoding, whole) in [(GZIP, gzip(body.as_bytes())), (ZSTD, zstd(body.as_bytes()))] {
        for broken in [&whole[..whole.len() / 2], b"", b"nonsense", body.as_bytes()] {
            queen.post_bytes(broken, &[JSON, encoding]).problem(400, "malformed_json");
        }
    }
    let mut wrong_sum = gzip(body.as_bytes());
    let sum_at = wrong_sum.len() - 8;
    wrong_sum[sum_at] ^= 1;
    queen.post_bytes(&wrong_sum, &[JSON, GZIP]).problem(400, "malformed_json");
    assert!(queen.get("/v1/hives").ok()["hives"].as_array().unwrap().is_empty());
}

#[test]
fn content_types_other_than_json_are_not_taken() {
    let queen = Queen::start();
    let body = heartbeat("h", now_ms()).to_string();
    let post = |kind: &str| queen.post_bytes(body.as_bytes(), &[("content-type", kind)]);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/xml", "json", ""] {
        let detail = post(kind).problem(415, "unsupported_media_type");
        assert!(detail.contains("application/json"), "{detail}");
    }
    for kind in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
        ack(&post(kind));
    }
    ack(&queen.post_bytes(body.as_bytes(), &[]));
}

#[test]
fn encodings_that_are_not_known_are_not_taken() {
    let queen = Queen::start();
    let body = heartbeat("h", now_ms()).to_string();
    for encoding in ["br", "deflate", "gzip, zstd", "aws-chunked"] {
        let headers = [JSON, ("content-encoding", encoding)];
        let detail =
            queen.post_bytes(body.as_bytes(), &headers).problem(415, "unsupported_media_type");
        assert!(detail.contains("gzip and zstd"), "{detail}");
    }
}

#[test]
fn eight_mib_are_taken_and_a_byte_more_is_not() {
    let queen = Queen::start();
    queen.post_bytes(&padded(MAX), &[JSON]).ok();
    let detail = queen.post_bytes(&padded(MAX + 1), &[JSON]).problem(413, "too_large");
    assert!(detail.contains("8 MiB"), "{detail}");
}

#[test]
fn the_limit_counts_what_is_decompressed() {
    let queen = Queen::start();
    for (encoding, compress) in [(GZIP, gzip as fn(&[u8]) -> Vec<u8>), (ZSTD, zstd)] {
        queen.post_bytes(&compress(&padded(MAX)), &[JSON, encoding]).ok();
        let larger = compress(&padded(MAX + 1));
        queen.post_bytes(&larger, &[JSON, encoding]).problem(413, "too_large");
    }
}

#[test]
fn a_bomb_is_refused_before_it_unfolds() {
    let queen = Queen::start();
    let zeros = vec![b' '; 256 << 20];
    for (encoding, bomb) in [(GZIP, gzip(&zeros)), (ZSTD, zstd(&zeros))] {
        assert!(bomb.len() < 1 << 20, "{} bytes", bomb.len());
        let begun = Instant::now();
        queen.post_bytes(&bomb, &[JSON, encoding]).problem(413, "too_large");
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    queen.takes(&heartbeat("h", now_ms()));
}
