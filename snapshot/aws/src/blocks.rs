//! Direct block reads: `ListSnapshotBlocks` and `GetSnapshotBlock`.

use std::time::Duration;

use aws_sdk_ebs::operation::RequestId;
use aws_sdk_ebs::operation::get_snapshot_block::GetSnapshotBlockError;
use aws_sdk_ebs::operation::list_snapshot_blocks::ListSnapshotBlocksError;
use aws_sdk_ebs::primitives::ByteStream;
use stillframe_block::BlockBuffer;
use stillframe_cloud::api::{Answer, ApiError, BlockData, BlockPage, Blocks, ErrorKind, ListedBlock};

use crate::connection::Connection;
use crate::errors::{self, Call};

/// The most that the service gives in one page.
const BLOCKS_A_PAGE: i32 = 10_000;
/// A block's length.
const BLOCK_BYTES: usize = 524_288;
/// A body may be longer than a block to be seen as wrong; it may not fill the memory.
const LONGEST_BODY_BYTES: usize = 2 * BLOCK_BYTES;
/// The SDK's own times end with the reply's head, and its stalled-stream protection lets one byte a second pass.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

impl Blocks for Connection {
    fn list_snapshot_blocks(
        &self,
        snapshot_id: &str,
        starting_block: u32,
        page: Option<String>,
    ) -> Answer<'_, BlockPage> {
        let snapshot_id = snapshot_id.to_owned();
        Box::pin(async move {
            let call = Call { operation: "ebs:ListSnapshotBlocks", resource: Some(&snapshot_id) };
            let starting = index_of_call(&call, starting_block)?;
            let listed = self
                .ebs
                .list_snapshot_blocks()
                .snapshot_id(&snapshot_id)
                .starting_block_index(starting)
                .set_next_token(page)
                .max_results(BLOCKS_A_PAGE)
                .send()
                .await
                .map_err(|error| errors::translate(&call, &error, reason_of_list))?;

            let request_id = listed.request_id().and_then(errors::request_word);
            let wrong = |code: &str| ApiError {
                operation: call.operation,
                resource: call.resource.map(str::to_owned),
                kind: ErrorKind::Other,
                code: code.to_owned(),
                request_id: request_id.clone(),
            };
            let volume_size_gib = listed.volume_size.and_then(|size| u64::try_from(size).ok());
            let block_size_bytes = listed.block_size.and_then(|size| u64::try_from(size).ok());
            let mut blocks = Vec::with_capacity(listed.blocks().len());
            for block in listed.blocks.unwrap_or_default() {
                let index = block.block_index.and_then(|index| u32::try_from(index).ok());
                blocks.push(ListedBlock {
                    index: index.ok_or_else(|| wrong("a block has no index"))?,
                    token: block.block_token.ok_or_else(|| wrong("a block has no token"))?,
                });
            }
            Ok(BlockPage {
                blocks,
                volume_size_gib: volume_size_gib.ok_or_else(|| wrong("the volume has no size"))?,
                block_size_bytes: block_size_bytes.ok_or_else(|| wrong("the blocks have no size"))?,
                next: listed.next_token.filter(|token| !token.is_empty()),
                request_id,
            })
        })
    }

    fn get_snapshot_block(
        &self,
        snapshot_id: &str,
        block_index: u32,
        block_token: &str,
    ) -> Answer<'_, BlockData> {
        let (snapshot_id, block_token) = (snapshot_id.to_owned(), block_token.to_owned());
        Box::pin(async move {
            let call = Call { operation: "ebs:GetSnapshotBlock", resource: Some(&snapshot_id) };
            let index = index_of_call(&call, block_index)?;
            let reply = self
                .ebs
                .get_snapshot_block()
                .snapshot_id(&snapshot_id)
                .block_index(index)
                .block_token(block_token)
                .send()
                .await
                .map_err(|error| errors::translate(&call, &error, reason_of_get))?;

            let request_id = reply.request_id().and_then(errors::request_word);
            let bytes = body(reply.block_data).await.map_err(|(kind, code)| ApiError {
                operation: call.operation,
                resource: call.resource.map(str::to_owned),
                kind,
                code: code.to_owned(),
                request_id: request_id.clone(),
            })?;
            Ok(BlockData {
                bytes,
                data_length: reply.data_length,
                checksum: reply.checksum,
                checksum_algorithm: reply.checksum_algorithm.map(|algorithm| algorithm.as_str().to_owned()),
                request_id,
            })
        })
    }
}

/// The service counts in `i32`.
fn index_of_call(call: &Call<'_>, index: u32) -> Result<i32, ApiError> {
    i32::try_from(index).map_err(|_| ApiError {
        operation: call.operation,
        resource: call.resource.map(str::to_owned),
        kind: ErrorKind::Invalid,
        code: "no volume has so many blocks".to_owned(),
        request_id: None,
    })
}

/// The body in one piece, bounded in length and time.
async fn body(mut stream: ByteStream) -> Result<Vec<u8>, (ErrorKind, &'static str)> {
    let read = async {
        let mut bytes = BlockBuffer::empty();
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|_| (ErrorKind::NoReply, "the body was cut"))?;
            if bytes.len().saturating_add(piece.len()) > LONGEST_BODY_BYTES {
                return Err((ErrorKind::Other, "the body is far longer than a block"));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes.into_vec())
    };
    tokio::time::timeout(BODY_TIMEOUT, read)
        .await
        .map_err(|_| (ErrorKind::NoReply, "the body came too slowly"))?
}

fn reason_of_get(error: &GetSnapshotBlockError) -> Option<&str> {
    use GetSnapshotBlockError as E;
    match error {
        E::AccessDeniedException(denied) => Some(denied.reason().as_str()),
        E::RequestThrottledException(throttled) => throttled.reason().map(|reason| reason.as_str()),
        E::ResourceNotFoundException(absent) => absent.reason().map(|reason| reason.as_str()),
        E::ServiceQuotaExceededException(quota) => quota.reason().map(|reason| reason.as_str()),
        E::ValidationException(invalid) => invalid.reason().map(|reason| reason.as_str()),
        _ => None,
    }
}

fn reason_of_list(error: &ListSnapshotBlocksError) -> Option<&str> {
    use ListSnapshotBlocksError as E;
    match error {
        E::AccessDeniedException(denied) => Some(denied.reason().as_str()),
        E::RequestThrottledException(throttled) => throttled.reason().map(|reason| reason.as_str()),
        E::ResourceNotFoundException(absent) => absent.reason().map(|reason| reason.as_str()),
        E::ServiceQuotaExceededException(quota) => quota.reason().map(|reason| reason.as_str()),
        E::ValidationException(invalid) => invalid.reason().map(|reason| reason.as_str()),
        _ => None,
    }
}
