// Runs @vladmandic/face-api on faces and on a photo, as peer_worker.py does the packages for Python.
//
// node peer_worker.js REQUEST.json    in a folder whose node_modules has the packages of its row in bench_peers.py
//
// TensorFlow.js computes in WebAssembly, in one thread under Node; @tensorflow/tfjs-node fetches its library from a
// server of its own when it is installed.

const fs = require('fs');
const path = require('path');
const { performance } = require('perf_hooks');

const request = JSON.parse(fs.readFileSync(process.argv[2]));
const load = (name) => require(path.join(request.modules, name));
const tf = load('@tensorflow/tfjs');
const wasm = load('@tensorflow/tfjs-backend-wasm');
const faceapi = load('@vladmandic/face-api/dist/face-api.node-wasm.js');
const models = path.join(request.modules, '@vladmandic/face-api/model');

async function open() {
  wasm.setWasmPaths(path.join(request.modules, '@tensorflow/tfjs-backend-wasm/dist/'));
  await tf.setBackend('wasm');
  await tf.ready();
  await faceapi.nets.faceExpressionNet.loadFromDisk(models);
}

// The uint8 array N×48×48 of a file of numpy's format.
function readFaces(file) {
  const content = fs.readFileSync(file);
  return content.subarray(10 + content.readUInt16LE(8));
}

// A file of numpy's format: float32 N×columns.
function writeRows(file, values, columns) {
  const facts = `{'descr': '<f4', 'fortran_order': False, 'shape': (${values.length / columns}, ${columns}), }`;
  const header = Buffer.from(facts.padEnd(117) + '\n');
  const start = Buffer.from([0x93, ...Buffer.from('NUMPY'), 1, 0, header.length, 0]);
  fs.writeFileSync(file, Buffer.concat([start, header, Buffer.from(new Float32Array(values).buffer)]));
}

// Scores N×7 of grey faces, in the order of FACE_EXPRESSION_LABELS.
async function scores(pixels) {
  const count = pixels.length / 48 ** 2;
  const batch = tf.tidy(() => {
    const grey = tf.tensor4d(Array.from(pixels), [count, 48, 48, 1], 'int32');
    return tf.unstack(tf.tile(grey, [1, 1, 1, 3])); // the package takes a list of pictures
  });
  const found = await faceapi.nets.faceExpressionNet.forward(batch);
  const values = await found.data();
  tf.dispose([...batch, found]);
  return values;
}

async function score() {
  const faces = readFaces(request.faces);
  const step = 64 * 48 ** 2;
  const rows = [];
  for (let start = 0; start < faces.length; start += step) rows.push(...await scores(faces.subarray(start, start + step)));
  writeRows(request.scores, rows, 7);
  return {};
}

async function speed() {
  const faces = readFaces(request.faces);
  const rates = {};
  for (const size of request.batch_sizes) {
    const batch = faces.subarray(0, size * 48 ** 2);
    await scores(batch);
    const started = performance.now();
    let done = 0;
    while (performance.now() - started < 1000 * request.seconds) {
      await scores(batch);
      done += size;
    }
    rates[size] = 1000 * done / (performance.now() - started);
  }
  return { rates };
}

// Decodes the photo, finds its faces with the tiny detector and names their expressions, as the package's demo.
async function look() {
  const image = load('@canvas/image');
  const canvas = await image.imageFromBuffer(fs.readFileSync(request.photo));
  const pixels = image.getImageData(canvas).data;
  const picture = tf.tidy(() => {
    const whole = tf.tensor3d(Array.from(pixels), [canvas.height, canvas.width, 4], 'int32');
    return tf.slice(whole, [0, 0, 0], [-1, -1, 3]);
  });
  const found = await faceapi.detectAllFaces(picture, new faceapi.TinyFaceDetectorOptions()).withFaceExpressions();
  tf.dispose(picture);
  return found.length;
}

async function photo() {
  await faceapi.nets.tinyFaceDetector.loadFromDisk(models);
  const found = await look();
  const seconds = [];
  for (let turn = 0; turn < request.looks; turn += 1) {
    const started = performance.now();
    await look();
    seconds.push((performance.now() - started) / 1000);
  }
  seconds.sort((a, b) => a - b);
  return { found, warm: seconds.length ? seconds[Math.floor(seconds.length / 2)] : null };
}

async function main() {
  await open();
  const answer = await { score, speed, photo }[request.task]();
  fs.writeFileSync(request.answer, JSON.stringify(answer));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
