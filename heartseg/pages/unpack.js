// What the page carries, unpacked: base64 of zlib streams.

const scan = JSON.parse(document.getElementById("scan").textContent);

async function unpack(text) {
  const binary = atob(text);
  const packed = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) { packed[i] = binary.charCodeAt(i); }
  if (!("DecompressionStream" in window)) { return inflate(packed); }
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// For browsers without DecompressionStream (before 2023): RFC 1951, bit by bit.
const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
  99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5,
  5, 5, 0];
const DISTANCES = [1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769,
  1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

function inflate(packed) {
  // Two bytes of zlib's header come first.
  let place = 2, bits = 0, held = 0, size = 0, last = false;
  let out = new Uint8Array(4 * packed.length + 1024);

  const take = (count) => {
    for (; held < count; held += 8) { bits |= packed[place++] << held; }
    const value = bits & ((1 << count) - 1);
    bits >>>= count;
    held -= count;
    return value;
  };
  const reserve = (count) => {
    if (size + count <= out.length) { return; }
    const larger = new Uint8Array(2 * (size + count));
    larger.set(out);
    out = larger;
  };
  const build = (lengths) => {
    const counts = new Uint16Array(16), starts = new Uint16Array(16);
    for (const length of lengths) { counts[length] += 1; }
    counts[0] = 0;
    for (let i = 1; i < 16; i++) { starts[i] = starts[i - 1] + counts[i - 1]; }
    const symbols = new Uint16Array(lengths.length);
    lengths.forEach((length, symbol) => { if (length) { symbols[starts[length]++] = symbol; } });
    return {counts, symbols};
  };
  const decode = ({counts, symbols}) => {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length < 16; length++) {
      code |= take(1);
      const count = counts[length];
      if (code - first < count) { return symbols[index + code - first]; }
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new Error("the data of this page are damaged");
  };
  const readCodes = () => {
    const numLiterals = take(5) + 257, numDistances = take(5) + 1, numLengths = take(4) + 4;
    const lengths = new Array(19).fill(0);
    for (let i = 0; i < numLengths; i++) { lengths[ORDER[i]] = take(3); }
    const table = build(lengths), all = [];
    while (all.length < numLiterals + numDistances) {
      const symbol = decode(table);
      if (symbol < 16) { all.push(symbol); continue; }
      const repeated = symbol === 16 ? all[all.length - 1] : 0;
      let times = symbol === 16 ? 3 + take(2) : symbol === 17 ? 3 + take(3) : 11 + take(7);
      for (; times > 0; times--) { all.push(repeated); }
    }
    return [build(all.slice(0, numLiterals)), build(all.slice(numLiterals))];
  };
  const copyStored = () => {
    bits = held = 0;
    const length = packed[place] | packed[place + 1] << 8;
    reserve(length);
    out.set(packed.subarray(place + 4, place + 4 + length), size);
    place += 4 + length;
    size += length;
  };
  const fixed = () => [
    build(Array.from({length: 288}, (_, i) => i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8)),
    build(new Array(30).fill(5)),
  ];

  while (!last) {
    last = take(1) === 1;
    const kind = take(2);
    if (kind === 0) { copyStored(); continue; }
    const [literals, distances] = kind === 1 ? fixed() : readCodes();
    for (;;) {
      const symbol = decode(literals);
      if (symbol === 256) { break; }
      if (symbol < 256) { reserve(1); out[size++] = symbol; continue; }
      const length = LENGTHS[symbol - 257] + take(LENGTH_BITS[symbol - 257]);
      const far = decode(distances);
      const distance = DISTANCES[far] + take(far < 4 ? 0 : (far >> 1) - 1);
      reserve(length);
      for (let i = 0; i < length; i++, size++) { out[size] = out[size - distance]; }
    }
  }
  return out.subarray(0, size);
}
