// Files -> one zip archive, stored without compression: PNG files do not shrink further (APPNOTE 6.3, section 4.3).

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n >>> 0;
});

function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 255];
  return (crc ^ 0xffffffff) >>> 0;
}

/** An entry of an archive: its checksum is computed; its bytes stay where the browser keeps them. */
export async function entry(name, blob) {
  return { name, blob, crc: crc32(new Uint8Array(await blob.arrayBuffer())) };
}

/** Entries -> Blob; under 4 GB and 65,536 files. */
export function zip(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const { name, blob, crc } of files) {
    const title = new TextEncoder().encode(name);
    const common = [20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0, ...word(crc), ...word(blob.size), ...word(blob.size), ...half(title.length), 0, 0];
    const header = Uint8Array.from([0x50, 0x4b, 3, 4, ...common]);
    parts.push(header, title, blob);
    directory.push(Uint8Array.from([0x50, 0x4b, 1, 2, 20, 0, ...common, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...word(at)]), title);
    at += header.length + title.length + blob.size;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = Uint8Array.from([0x50, 0x4b, 5, 6, 0, 0, 0, 0, ...half(files.length), ...half(files.length), ...word(size), ...word(at), 0, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

const half = (n) => [n & 255, (n >>> 8) & 255];
const word = (n) => [...half(n), ...half(n >>> 16)];
