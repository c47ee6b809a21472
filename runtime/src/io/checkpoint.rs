//! Checkpoints: a safetensors file with what trains, the optimizer's state and where the data
//! stands. Written beside its place, flushed, and renamed over it, so that the file of that name
//! is always whole. The one before it stays beside it, for the day when a disk gives back other
//! bytes than it was given.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};

use super::mapped;
use crate::error::{Error, Result};
use crate::tensor::{DType, Shape, Storage, Tensor, TensorDesc};

/// Version of the layout; files of another are refused.
const VERSION: &str = "1";

/// More updates than any run makes, few enough that counting on cannot overflow.
const MOST_STEPS: u64 = 1 << 48;

/// What a checkpoint says beside its tensors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Updates made.
    pub step: u64,
    /// The caller's note of where its data stands.
    pub position: String,
}

/// A checkpoint read back.
#[derive(Debug)]
pub struct Checkpoint {
    /// See [`Meta`].
    pub meta: Meta,
    tensors: HashMap<String, Tensor>,
}

impl Checkpoint {
    /// A tensor by name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn tensor(&self, name: &str) -> Result<&Tensor> {
        self.tensors.get(name).ok_or_else(|| Error::NotFound {
            kind: "tensor in the checkpoint",
            name: name.to_owned(),
            known: Vec::new(),
        })
    }

    /// All tensors.
    #[must_use]
    pub fn tensors(&self) -> &HashMap<String, Tensor> {
        &self.tensors
    }
}

/// Writes a checkpoint to `path`, atomically. The one that was there is kept as `path.previous`.
///
/// # Errors
/// [`Error::Io`]: whatever was at `path` is then still there. [`Error::Usage`] for a tensor whose
/// type safetensors cannot name, and for a name that is there twice or means something else.
pub fn save(path: &Path, tensors: &[(&str, &Tensor)], meta: &Meta) -> Result<()> {
    let header = header(tensors, meta)?;
    let temporary = temporary(path);
    let written = write(&temporary, &header, tensors)
        .and_then(|()| keep_previous(path))
        .and_then(|()| fs::rename(&temporary, path));
    if let Err(error) = written {
        // The rename did not happen, so this removes only our own leavings.
        let _ = fs::remove_file(&temporary);
        if !path.exists() {
            // Without links the file there was moved aside; there may have been none.
            let _ = fs::rename(previous(path), path);
        }
        return Err(Error::io(path, error));
    }
    sync_directory(path);
    Ok(())
}

/// Reads the checkpoint at `path`; where that is damaged or gone, the one before it, and what is
/// wrong with the later one.
///
/// # Errors
/// As [`load`] of `path`, where the one before it cannot be read either.
pub fn load_latest(path: &Path) -> Result<(Checkpoint, Option<Error>)> {
    match load(path) {
        Ok(checkpoint) => Ok((checkpoint, None)),
        Err(error) => {
            let is_gone = matches!(&error, Error::Io { source, .. }
                if source.kind() == std::io::ErrorKind::NotFound);
            let is_damaged = matches!(error, Error::Format { .. });
            match load(&previous(path)) {
                Ok(checkpoint) if is_gone || is_damaged => Ok((checkpoint, Some(error))),
                _ => Err(error),
            }
        }
    }
}

/// Reads a checkpoint, checking it whole. Its tensors stay mapped from the file.
///
/// # Errors
/// [`Error::Io`]; [`Error::Format`] for a file that is torn, foreign or of another version.
pub fn load(path: &Path) -> Result<Checkpoint> {
    let bytes = mapped::map(path)?;
    let broken = |why: String| {
        let mend = "give a file that a run has saved";
        Error::format(path, format!("not a whole checkpoint ({why}): {mend}"))
    };
    let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| broken(e.to_string()))?;
    let notes = metadata.metadata().clone().unwrap_or_default();
    let note = |name: &str| {
        notes.get(name).cloned().ok_or_else(|| broken(format!("no `{name}` in its header")))
    };
    if note("tenon.version")? != VERSION {
        return Err(broken(format!("version {} is not {VERSION}", note("tenon.version")?)));
    }
    let step = note("tenon.step")?.parse().ok().filter(|&step: &u64| step <= MOST_STEPS);
    let step = step.ok_or_else(|| broken("bad step number".into()))?;
    let meta = Meta { step, position: note("tenon.position")? };
    let file = SafeTensors::deserialize(&bytes).map_err(|e| broken(e.to_string()))?;
    // The reader gives tensors in no order of its own; the sum was made in the file's.
    let mut views: Vec<_> = file.iter().collect();
    views.sort_by_key(|(_, view)| view.data().as_ptr());
    if checksum(views.iter().map(|(_, view)| view.data())) != note("tenon.checksum")? {
        return Err(broken("its checksum does not match".into()));
    }
    let tensors = views
        .into_iter()
        .map(|(name, view)| {
            let dtype = from_safetensors(view.dtype())
                .ok_or_else(|| broken(format!("`{name}` has type {:?}", view.dtype())))?;
            let desc = Shape::new(view.shape()).and_then(|shape| TensorDesc::new(dtype, shape));
            let desc = desc.map_err(|e| broken(format!("`{name}`: {e}")))?;
            let start = view.data().as_ptr().addr() - bytes.as_ptr().addr();
            let storage = Storage::mapped(bytes.clone(), start..start + view.data().len())?;
            Ok((name.to_owned(), Tensor::new(desc, storage)?))
        })
        .collect::<Result<_>>()?;
    Ok(Checkpoint { meta, tensors })
}

/// The safetensors header, with its length before it and padding behind it.
fn header(tensors: &[(&str, &Tensor)], meta: &Meta) -> Result<Vec<u8>> {
    let mut end = 0;
    let mut infos = Vec::with_capacity(tensors.len());
    // The crate would write a file that it cannot read, or panic.
    let mut taken = HashSet::from(["__metadata__"]);
    for (name, tensor) in tensors {
        let desc = tensor.desc();
        if !taken.insert(name) {
            let why = format!("a checkpoint cannot hold `{name}`: the name is taken; give another");
            return Err(Error::Usage(why));
        }
        let dtype = to_safetensors(desc.dtype()).ok_or_else(|| {
            Error::Usage(format!("`{name}` is {}, which a checkpoint cannot hold", desc.dtype()))
        })?;
        let start = end;
        end += desc.bytes();
        let info = TensorInfo { dtype, shape: desc.shape().to_vec(), data_offsets: (start, end) };
        infos.push(((*name).to_owned(), info));
    }
    // SAFETY: the caller of `save` holds the tensors still.
    let bytes = tensors.iter().map(|(_, t)| unsafe { t.storage().bytes() });
    let bytes = bytes.collect::<Result<Vec<_>>>()?;
    let notes = HashMap::from([
        ("tenon.version".to_owned(), VERSION.to_owned()),
        ("tenon.step".to_owned(), meta.step.to_string()),
        ("tenon.position".to_owned(), meta.position.clone()),
        ("tenon.checksum".to_owned(), checksum(bytes.into_iter())),
    ]);
    let unusable = |e: &dyn std::fmt::Display| Error::Usage(format!("checkpoint header: {e}"));
    let metadata = Metadata::new(Some(notes), infos).map_err(|e| unusable(&e))?;
    let mut json = serde_json::to_vec(&metadata).map_err(|e| unusable(&e))?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut header = (json.len() as u64).to_le_bytes().to_vec();
    header.append(&mut json);
    Ok(header)
}

fn write(path: &Path, header: &[u8], tensors: &[(&str, &Tensor)]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(header)?;
    for (_, tensor) in tensors {
        // SAFETY: the caller of `save` holds the tensors still.
        file.write_all(unsafe { tensor.storage().bytes() }.map_err(std::io::Error::other)?)?;
    }
    file.into_inner()?.sync_all()
}

/// A name beside `path` that no checkpoint of a user has.
fn temporary(path: &Path) -> PathBuf {
    beside(path, &format!(".{}.partial", std::process::id()))
}

/// Where the checkpoint before the one at `path` is kept.
#[must_use]
pub fn previous(path: &Path) -> PathBuf {
    beside(path, ".previous")
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    path.with_file_name(name)
}

/// Gives the file at `path`, if there is one (and not a folder), its second name. At no moment is neither there whole.
fn keep_previous(path: &Path) -> std::io::Result<()> {
    // A damaged one must not take the place of a whole one.
    if load(path).is_err() {
        return Ok(());
    }
    let link = beside(path, &format!(".{}.link", std::process::id()));
    let _ = fs::remove_file(&link);
    match fs::hard_link(path, &link) {
        Ok(()) => fs::rename(&link, previous(path)),
        // Some file systems of phones know no links.
        Err(_) => fs::rename(path, previous(path)),
    }
}

/// Makes the rename itself durable. The data is safe either way, so a file system that cannot
/// flush a directory is no error.
fn sync_directory(path: &Path) {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if let Ok(directory) = File::open(parent) {
        let _ = directory.sync_all();
    }
}

/// FNV-1a over 8-byte words: finds torn and flipped content, at memory speed.
fn checksum<'a>(parts: impl Iterator<Item = &'a [u8]>) -> String {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for part in parts {
        for word in part.chunks(8) {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            hash = (hash ^ u64::from_le_bytes(bytes)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    format!("{hash:016x}")
}

fn to_safetensors(dtype: DType) -> Option<Dtype> {
    Some(match dtype {
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::I8 => Dtype::I8,
        DType::I32 => Dtype::I32,
        DType::U8 => Dtype::U8,
        DType::Quant(_) => return None,
    })
}

/// The type that a safetensors file names, where tensors can have it.
pub(super) fn from_safetensors(dtype: Dtype) -> Option<DType> {
    Some(match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F16 => DType::F16,
        Dtype::BF16 => DType::BF16,
        Dtype::I8 => DType::I8,
        Dtype::I32 => DType::I32,
        Dtype::U8 => DType::U8,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::folder::Folder;
    use super::*;

    fn meta() -> Meta {
        Meta { step: 7, position: "{\"at\":3}".to_owned() }
    }

    #[test]
    fn comes_back_as_it_went() {
        let folder = Folder::new("checkpoint-whole");
        let path = folder.join("file");
        let a = Tensor::from_slice(&[2, 3], &[1f32, -2.0, 3.5, f32::MIN, 0.0, 1e-40]).unwrap();
        let b = Tensor::from_slice(&[], &[4i32]).unwrap();
        save(&path, &[("b", &b), ("a", &a)], &meta()).unwrap();
        let back = load(&path).unwrap();
        assert_eq!(back.meta, meta());
        let bits = |t: &Tensor| t.to_vec::<f32>().unwrap().into_iter().map(f32::to_bits).collect();
        let (there, here): (Vec<u32>, Vec<u32>) = (bits(back.tensor("a").unwrap()), bits(&a));
        assert_eq!(there, here);
        assert_eq!(back.tensor("b").unwrap().to_vec::<i32>().unwrap(), [4]);
    }

    #[test]
    fn many_tensors_come_back_in_any_order() {
        let folder = Folder::new("checkpoint-many");
        let path = folder.join("file");
        let tensors: Vec<(String, Tensor)> = (0..64)
            .map(|i| (format!("t{}", (i * 37) % 64), Tensor::from_slice(&[1], &[i]).unwrap()))
            .collect();
        let named: Vec<(&str, &Tensor)> = tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
        save(&path, &named, &meta()).unwrap();
        let back = load(&path).unwrap();
        for (name, tensor) in named {
            let there = back.tensor(name).unwrap().to_vec::<i32>().unwrap();
            assert_eq!(there, tensor.to_vec::<i32>().unwrap(), "{name}");
        }
    }

    #[test]
    fn names_must_differ() {
        let folder = Folder::new("checkpoint-names");
        let path = folder.join("file");
        let a = Tensor::from_slice(&[1], &[1f32]).unwrap();
        for names in [["a", "a"], ["a", "__metadata__"]] {
            let error = save(&path, &names.map(|name| (name, &a)), &meta()).unwrap_err();
            assert!(error.to_string().contains(names[1]), "{error}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn finds_every_torn_or_flipped_file() {
        let folder = Folder::new("checkpoint-torn");
        let path = folder.join("file");
        let a = Tensor::from_slice(&[4], &[1f32, 2.0, 3.0, 4.0]).unwrap();
        save(&path, &[("a", &a)], &meta()).unwrap();
        let whole = fs::read(&path).unwrap();
        for cut in [0, 1, 8, 20, whole.len() - 17, whole.len() - 1] {
            fs::write(&path, &whole[..cut]).unwrap();
            assert!(load(&path).is_err(), "{cut} bytes");
        }
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        fs::write(&path, &flipped).unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("checksum"));
    }

    #[test]
    fn the_one_before_takes_a_damaged_ones_place() {
        let folder = Folder::new("checkpoint-two");
        let path = folder.join("file");
        let step = |step| Meta { step, position: String::new() };
        let a = Tensor::from_slice(&[1], &[1f32]).unwrap();
        for number in 1..=3 {
            save(&path, &[("a", &a)], &step(number)).unwrap();
        }
        let (latest, damage) = load_latest(&path).unwrap();
        assert!(latest.meta.step == 3 && damage.is_none());
        let whole = fs::read(&path).unwrap();
        fs::write(&path, &whole[..whole.len() - 1]).unwrap();
        let (latest, damage) = load_latest(&path).unwrap();
        assert!(latest.meta.step == 2 && damage.unwrap().to_string().contains("not a whole"));
        fs::remove_file(&path).unwrap();
        assert_eq!(load_latest(&path).unwrap().0.meta.step, 2);
        fs::write(previous(&path), b"no").unwrap();
        assert!(load_latest(&path).is_err());
    }

    #[test]
    fn a_failed_save_leaves_the_old_file() {
        let folder = Folder::new("checkpoint-kept");
        let path = folder.join("file");
        let a = Tensor::from_slice(&[1], &[1f32]).unwrap();
        save(&path, &[("a", &a)], &meta()).unwrap();
        let missing = folder.join("no-such-folder/x");
        assert!(save(&missing, &[("a", &a)], &meta()).is_err());
        let inner = folder.join("folder");
        fs::create_dir_all(&inner).unwrap();
        assert!(save(&inner, &[("a", &a)], &meta()).is_err());
        assert!(inner.is_dir() && !previous(&inner).exists());
        assert!(load(&path).is_ok());
    }
}
