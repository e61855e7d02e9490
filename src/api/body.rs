//! Request bodies: content type, encoding and size, bounded before and after decompression.

use std::io::Read;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use hive_contract::{Code, Problem};
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::problem::ApiError;

/// A JSON or ndjson body of at most `MAX` bytes, decompressed.
#[derive(Debug)]
pub(super) struct JsonBody<const MAX: usize>(pub(super) Bytes);

/// The largest window of a zstd body, as a power of two: the 8 MiB that every decoder grants.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

impl<S: Send + Sync, const MAX: usize> FromRequest<S> for JsonBody<MAX> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        check_content_type(request.headers())?;
        let encoding = encoding(request.headers())?;
        let body = Limited::new(request.into_body(), MAX).collect().await.map_err(|error| {
            if error.is::<LengthLimitError>() {
                too_large(MAX)
            } else {
                Problem::new(Code::MalformedJson, "the body broke off")
            }
        })?;
        Ok(Self(decompress(body.to_bytes(), encoding, MAX)?))
    }
}

fn too_large(max: usize) -> Problem {
    Problem::new(Code::TooLarge, format!("the body is larger than {} MiB", max >> 20))
}

fn check_content_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let value = value.to_str().unwrap_or_default();
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "application/json"
        | "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl" => Ok(()),
        _ => Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("Content-Type {essence:?} is not taken; application/json is"),
        )
        .into()),
    }
}

fn encoding(headers: &HeaderMap) -> Result<Encoding, ApiError> {
    let Some(value) = headers.get(header::CONTENT_ENCODING) else { return Ok(Encoding::Identity) };
    match value.to_str().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
        "" | "identity" => Ok(Encoding::Identity),
        "gzip" | "x-gzip" => Ok(Encoding::Gzip),
        "zstd" => Ok(Encoding::Zstd),
        other => Err(Problem::new(
            Code::UnsupportedMediaType,
            format!("Content-Encoding {other:?} is not taken; gzip and zstd are"),
        )
        .into()),
    }
}

fn decompress(body: Bytes, encoding: Encoding, max: usize) -> Result<Bytes, ApiError> {
    let mut out = Vec::new();
    let limit = max as u64 + 1;
    let read = match encoding {
        Encoding::Identity => return Ok(body),
        Encoding::Gzip => {
            flate2::read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut out)
        }
        Encoding::Zstd => zstd::Decoder::new(&body[..]).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
            decoder.take(limit).read_to_end(&mut out)
        }),
    };
    match read {
        Ok(_) if out.len() > max => Err(too_large(max).into()),
        Ok(_) => Ok(out.into()),
        Err(error) => Err(Problem::new(
            Code::MalformedJson,
            format!("the compressed body cannot be read: {error}"),
        )
        .into()),
    }
}
