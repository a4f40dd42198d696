//! How messages are written and read: tonic's own codec for prost, with buffers made for the message at hand. Its own
//! begins with 8 KiB on each side of every call and stream, which each open stream keeps.

use std::marker::PhantomData;

use prost::Message;
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::{ProstCodec, ProstDecoder};

/// Bytes that a buffer to write into begins with: enough for most answers.
const FIRST_WRITTEN_BYTES: usize = 512;
/// Bytes that a buffer to read into begins with, before it is known what comes.
const FIRST_READ_BYTES: usize = 64;
/// Bytes from which on what is written goes out, though there is more: tonic's own number.
const TOGETHER_BYTES: usize = 32 * 1024;

/// The codec of the generated clients and servers.
#[derive(Debug)]
pub struct MessageCodec<T, U>(PhantomData<(T, U)>);

impl<T, U> Default for MessageCodec<T, U> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T, U> Codec for MessageCodec<T, U>
where
    T: Message + Send + 'static,
    U: Message + Default + Send + 'static,
{
    type Encode = T;
    type Decode = U;
    type Encoder = MessageEncoder<T>;
    type Decoder = ProstDecoder<U>;

    fn encoder(&mut self) -> Self::Encoder {
        MessageEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<T, U>::raw_decoder(BufferSettings::new(FIRST_READ_BYTES, TOGETHER_BYTES))
    }
}

/// Writes messages, each into as much room as it needs.
#[derive(Debug)]
pub struct MessageEncoder<T>(PhantomData<T>);

impl<T: Message> Encoder for MessageEncoder<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buf.reserve(item.encoded_len());
        // Fails only where the room is not enough, and buffers grow.
        item.encode(buf).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(FIRST_WRITTEN_BYTES, TOGETHER_BYTES)
    }
}
