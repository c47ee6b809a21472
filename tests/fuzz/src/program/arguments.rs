//! Arguments of C calls: mostly good, sometimes bad in a way that the header allows for.

use std::ffi::{CString, c_char, c_void};

use crate::{Chosen, SIZES, Unstructured, rarely};

/// Texts that live as long as a program.
#[derive(Default)]
pub struct Texts(Vec<CString>);

/// Names that functions know, and some that they do not.
const NAMES: &[&str] = &[
    "x",
    "w",
    "b",
    "targets",
    "loss",
    "tokens",
    "y",
    "grad/w",
    "grad/x",
    "hidden/1",
    "logits",
    "train.lr",
    "train.seed",
    "grad/hidden/1",
    "anchor/w",
    "model.norm.weight",
    "sent",
    "",
];

impl Texts {
    /// A text as a pointer; NULL and what is not UTF-8 now and then.
    ///
    /// # Errors
    /// None but those of reading choices.
    pub fn give(&mut self, u: &mut Unstructured<'_>, usual: &str) -> Chosen<*const c_char> {
        if rarely(u, 64)? {
            return Ok(std::ptr::null());
        }
        let bytes = match u.int_in_range(0..=63)? {
            63 => b"\xff\xfe".to_vec(),
            62 => vec![b'n'; 5000],
            61 => u.arbitrary()?,
            60 | 59 => u.choose(NAMES)?.as_bytes().to_vec(),
            _ => usual.as_bytes().to_vec(),
        };
        let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
        self.0.push(CString::new(&bytes[..end]).expect("cut before a NUL"));
        Ok(self.0.last().map_or(std::ptr::null(), |text| text.as_ptr()))
    }

    /// The path of a scratch file, which may be in a folder that is not there: what is written to by
    /// name must not be just anything.
    ///
    /// # Errors
    /// As [`Texts::give`].
    pub fn path(&mut self, u: &mut Unstructured<'_>, name: &str) -> Chosen<*const c_char> {
        use std::os::unix::ffi::OsStrExt;
        let path = crate::scratch::folder().join(name);
        let bytes = match u.int_in_range(0..=31)? {
            31 => return Ok(std::ptr::null()),
            30 => [path.as_os_str().as_bytes(), b"\xff"].concat(),
            29 => path.join("none").as_os_str().as_bytes().to_vec(),
            _ => path.as_os_str().as_bytes().to_vec(),
        };
        self.0.push(CString::new(bytes).expect("paths have no NUL"));
        Ok(self.0.last().map_or(std::ptr::null(), |text| text.as_ptr()))
    }

    /// One of the names.
    ///
    /// # Errors
    /// As [`Texts::give`].
    pub fn name(&mut self, u: &mut Unstructured<'_>) -> Chosen<*const c_char> {
        let name = *u.choose(NAMES)?;
        self.give(u, name)
    }
}

/// A struct as a caller of some version has it: so many bytes as it states, on the heap, where a
/// byte too far is seen.
pub struct Laid(Option<Box<[u64]>>);

impl Laid {
    /// `value`, whose first field is its size, as it is for the most part; NULL, shorter, longer or
    /// of an absurd size else.
    ///
    /// # Errors
    /// None but those of reading choices.
    pub fn new<T: Copy>(u: &mut Unstructured<'_>, value: T) -> Chosen<Self> {
        let own = size_of::<T>();
        let (stated, there) = match u.int_in_range(0..=31)? {
            31 => return Ok(Self(None)),
            30 => (*u.choose(SIZES)? as usize, 8),
            29 => {
                let size = u.int_in_range(1..=own / 8)? * 8;
                (size, size)
            }
            28 => {
                let size = own + u.int_in_range(1..=8)? * 8;
                (size, size)
            }
            _ => (own, own),
        };
        // What is absurd is refused by its size alone; what could be a struct's must be there.
        let there = if stated <= 4096 { stated.max(there) } else { there };
        let mut words = vec![0u64; there.div_ceil(8)].into_boxed_slice();
        // SAFETY: both hold so many bytes.
        unsafe {
            let bytes = words.as_mut_ptr().cast::<u8>();
            std::ptr::copy_nonoverlapping((&raw const value).cast(), bytes, own.min(there));
        }
        if let Some(first) = words.first_mut() {
            *first = stated as u64;
        }
        if rarely(u, 16)? && there > own {
            *words.last_mut().expect("longer than the struct") = 1;
        }
        Ok(Self(Some(words)))
    }

    /// The pointer to pass.
    #[must_use]
    pub fn pointer<T>(&mut self) -> *mut T {
        self.0.as_mut().map_or(std::ptr::null_mut(), |words| words.as_mut_ptr().cast())
    }
}

/// A buffer of exactly so many bytes on the heap; NULL now and then, which is in order where its length
/// is 0. The length that is told is right for the most part, and never longer than what is there.
pub struct Buffer {
    words: Vec<u8>,
    start: usize,
    told: usize,
    is_null: bool,
}

impl Buffer {
    /// A buffer for `size` bytes, of elements of `each`.
    ///
    /// # Errors
    /// None but those of reading choices.
    pub fn new(u: &mut Unstructured<'_>, size: usize, each: usize) -> Chosen<Self> {
        let size = match u.int_in_range(0..=31)? {
            31 => size + each,
            30 => size.saturating_sub(each),
            29 => 0,
            _ => size,
        };
        let is_null = rarely(u, 64)?;
        // Bytes may lie anywhere; elements off their alignment are refused.
        let start = if rarely(u, 64)? { 1 } else { 0 };
        let mut words = vec![0; size + start];
        let fill: u8 = u.arbitrary()?;
        for (i, byte) in words.iter_mut().enumerate() {
            *byte = if fill < 128 { 0 } else { (i as u8).wrapping_mul(fill) & 0x3f };
        }
        Ok(Self { words, start, told: size / each, is_null })
    }

    /// The pointer to pass.
    #[must_use]
    pub fn pointer<T>(&mut self) -> *mut T {
        if self.is_null {
            return std::ptr::null_mut();
        }
        self.words[self.start..].as_mut_ptr().cast()
    }

    /// The length to pass, in elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.told
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.told == 0
    }

    /// Its bytes, to be filled.
    pub fn bytes(&mut self) -> &mut [u8] {
        &mut self.words[self.start..]
    }
}

/// An element type; of those that are known for the most part.
///
/// # Errors
/// None but those of reading choices.
pub fn dtype(u: &mut Unstructured<'_>) -> Chosen<i32> {
    match u.int_in_range(0..=15)? {
        15 => u.arbitrary(),
        14 | 13 => u.int_in_range(0..=23),
        12 => Ok(4),
        _ => Ok(0),
    }
}

/// Dimensions: small ones for the most part.
///
/// # Errors
/// None but those of reading choices.
pub fn dims(u: &mut Unstructured<'_>) -> Chosen<Vec<i64>> {
    let mut all = Vec::new();
    for _ in 0..if rarely(u, 64)? { 9 } else { u.int_in_range(0..=3)? } {
        let hostile = rarely(u, 64)?;
        all.push(if hostile { *u.choose(SIZES)? as i64 } else { u.int_in_range(0..=8)? });
    }
    Ok(all)
}

/// A pointer to a new, writable place; NULL now and then.
///
/// # Errors
/// None but those of reading choices.
pub fn place<T>(u: &mut Unstructured<'_>, to: &mut T) -> Chosen<*mut T> {
    Ok(if rarely(u, 64)? { std::ptr::null_mut() } else { to })
}

/// The caller's memory: it ends, and may be told to end early.
#[derive(Default)]
pub struct Heap {
    /// Bytes given out.
    pub live: std::sync::atomic::AtomicUsize,
    /// Requests until one is refused; below 0: none is.
    pub left: std::sync::atomic::AtomicIsize,
}

/// For `tn_allocator`.
///
/// # Safety
/// `user` is a [`Heap`].
pub unsafe extern "C" fn allocate(user: *mut c_void, size: usize, align: usize) -> *mut c_void {
    use std::sync::atomic::Ordering::Relaxed;
    // SAFETY: the caller's contract.
    let heap = unsafe { &*user.cast::<Heap>() };
    let fails = heap.left.load(Relaxed) >= 0 && heap.left.fetch_sub(1, Relaxed) == 0;
    let Ok(layout) = std::alloc::Layout::from_size_align(size, align) else {
        return std::ptr::null_mut();
    };
    if fails || heap.live.load(Relaxed).saturating_add(size) > crate::memory::MOST {
        return std::ptr::null_mut();
    }
    heap.live.fetch_add(size, Relaxed);
    // SAFETY: the size is not 0, the header says.
    unsafe { std::alloc::alloc(layout).cast() }
}

/// For `tn_allocator`.
///
/// # Safety
/// `user` is a [`Heap`]; the memory is of [`allocate`], which was asked for so many bytes.
pub unsafe extern "C" fn release(user: *mut c_void, memory: *mut c_void, size: usize) {
    // SAFETY: the caller's contract.
    let heap = unsafe { &*user.cast::<Heap>() };
    heap.live.fetch_sub(size, std::sync::atomic::Ordering::Relaxed);
    let layout = std::alloc::Layout::from_size_align(size, 64).expect("it was one before");
    // SAFETY: all of Tenon's requests are aligned to 64.
    unsafe { std::alloc::dealloc(memory.cast(), layout) }
}
