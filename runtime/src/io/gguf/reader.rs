//! A cursor that never leaves its bytes.

/// Reads little-endian values off the front of a file.
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A cursor at the start of `bytes`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Bytes that are left.
    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// The next `len` bytes, which are a `what`.
    pub(super) fn take(&mut self, len: u64, what: &str) -> Result<&'a [u8], String> {
        let len = usize::try_from(len).ok().filter(|&len| len <= self.left()).ok_or_else(|| {
            format!(
                "is truncated or damaged: a {what} of {len} bytes at byte {} of {}; \
                 download it again",
                self.position,
                self.bytes.len()
            )
        })?;
        let taken = &self.bytes[self.position..][..len];
        self.position += len;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub(super) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], String> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, what)?);
        Ok(out)
    }

    /// The next u32.
    pub(super) fn u32(&mut self, what: &str) -> Result<u32, String> {
        self.array(what).map(u32::from_le_bytes)
    }

    /// The next u64.
    pub(super) fn u64(&mut self, what: &str) -> Result<u64, String> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The next string: its length, then UTF-8.
    pub(super) fn string(&mut self, what: &str) -> Result<&'a str, String> {
        let len = self.u64(what)?;
        let bytes = self.take(len, what)?;
        std::str::from_utf8(bytes)
            .map_err(|_| format!("has a {what} that is not UTF-8, before byte {}", self.position))
    }
}
