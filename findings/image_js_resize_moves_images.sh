#!/usr/bin/env bash
# image-js 1.7.0, for Node and browsers, resizes images. By "bilinear", the default, and "bicubic" all that an image
# shows comes out half a pixel of the result too far to the right and below, whatever the sizes: made eight times
# smaller, by 4 pixels of the image, and one that is "resized" to its own size is half a pixel off and blurred, where
# nothing was to do. So masks that a network finds in the small image, scaled back, and boxes that are scaled with it do
# not lie on their objects, nor do label maps resized by "nearest", of which no pixel moves at its own or twice its
# size. The cause is a shift of half the factor where half of the factor minus 1 is meant, as pixels' middles are whole
# numbers there. Means of blocks are right. Nothing is said. Needs Node 20 or newer. Exits 1 if that changes.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-audit --no-fund --prefix . image-js@1.7.0
cat > show.mjs <<'JS'
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { Image } from 'image-js';

const { version } = JSON.parse(readFileSync('node_modules/image-js/package.json', 'utf8'));
console.log(`image-js ${version}, Node ${process.versions.node}`);
const SIDE = 240;

/** An image of values. */
function made(side, value) {
  const image = new Image(side, side, { colorModel: 'GREY', bitDepth: 16 });
  for (let y = 0; y < side; y++) for (let x = 0; x < side; x++) image.setValue(x, y, 0, Math.round(value(x, y)));
  return image;
}

/** The middle of what an image shows, in parts of its side; the middle of the first pixel is at half a pixel. */
function middle(image) {
  let [sum, x, y] = [0, 0, 0];
  for (let row = 0; row < image.height; row++) {
    for (let column = 0; column < image.width; column++) {
      const value = image.getValue(column, row, 0);
      [sum, x, y] = [sum + value, x + value * (column + 0.5), y + value * (row + 0.5)];
    }
  }
  return [x / sum / image.width, y / sum / image.height];
}

const spot = made(SIDE, (x, y) => 65535 * Math.exp(-((x - 101.5) ** 2 + (y - 131.5) ** 2) / 800));
const before = middle(spot);
assert(Math.abs(before[0] * SIDE - 102) < 0.01 && Math.abs(before[1] * SIDE - 132) < 0.01);

for (const side of [30, 60, 120, 180, 240, 480]) {
  const block = SIDE / side;
  const off = {};
  const move = (image) => middle(image).map((m, axis) => (m - before[axis]) * side);
  for (const interpolationType of ['bilinear', 'bicubic', 'nearest']) {
    off[interpolationType] = move(spot.resize({ width: side, height: side, interpolationType }));
  }
  if (Number.isInteger(block)) {
    off['means of blocks'] = move(made(side, (x, y) => {
      let sum = 0;
      for (let i = 0; i < block * block; i++) {
        sum += spot.getValue(x * block + (i % block), y * block + Math.floor(i / block), 0);
      }
      return sum / block ** 2;
    }));
  }
  console.log(`   ${SIDE} to ${side}, pixels of the result to the right: `
    + Object.entries(off).map(([name, [x]]) => `${name} ${x.toFixed(2)}`).join(', ')
    + `; half a pixel is ${(0.5 * block).toFixed(2)} of the image`);
  for (const name of ['bilinear', 'bicubic']) assert(off[name].every((m) => Math.abs(m - 0.5) < 0.03));
  if (off['means of blocks']) assert(off['means of blocks'].every((m) => Math.abs(m) < 0.01));
  if (side >= SIDE) assert(off.nearest.every((m) => Math.abs(m) < 0.01));
}

const noise = made(64, (x, y) => (x * 7919 + y * 104729 + x * y * 31) % 65536);
const same = {};
for (const interpolationType of ['bilinear', 'bicubic', 'nearest']) {
  const again = noise.resize({ width: 64, height: 64, interpolationType });
  same[interpolationType] = Array.from({ length: 64 * 64 }, (_, i) => i)
    .filter((i) => again.getValueByIndex(i, 0) === noise.getValueByIndex(i, 0)).length;
}
console.log(`   of ${64 * 64} pixels at their own size the same:`, same);
assert(same.nearest === 64 * 64 && same.bilinear < 100 && same.bicubic < 100);
JS
node show.mjs
