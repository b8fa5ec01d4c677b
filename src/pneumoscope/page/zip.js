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

/** files: [{name, bytes: Uint8Array}] -> Blob */
export function zip(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const { name, bytes } of files) {
    const title = new TextEncoder().encode(name), crc = crc32(bytes);
    const common = [20, 0, 0, 8, 0, 0, 0, 0, 0x21, 0, ...word(crc), ...word(bytes.length), ...word(bytes.length), ...half(title.length), 0, 0];
    const header = Uint8Array.from([0x50, 0x4b, 3, 4, ...common]);
    parts.push(header, title, bytes);
    directory.push(Uint8Array.from([0x50, 0x4b, 1, 2, 20, 0, ...common, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ...word(at)]), title);
    at += header.length + title.length + bytes.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = Uint8Array.from([0x50, 0x4b, 5, 6, 0, 0, 0, 0, ...half(files.length), ...half(files.length), ...word(size), ...word(at), 0, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

const half = (n) => [n & 255, (n >>> 8) & 255];
const word = (n) => [...half(n), ...half(n >>> 16)];
