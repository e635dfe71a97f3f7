// Numbers: weights out of the page's text, and the forward pass.

const BYTES_OF = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));

/** The float32 value of each of the 65,536 float16 numbers. */
const HALVES = (() => {
  const values = new Float32Array(1 << 16);
  for (let bits = 0; bits < values.length; bits++) {
    const exponent = (bits >> 10) & 31, fraction = bits & 1023;
    const size = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    values[bits] = bits & 0x8000 ? -size : size;
  }
  return values;
})();

/** Return the numbers in base64 `text`, float16 with `half`, else float32, as a Float32Array. */
function decodedFloats(text, half) {
  const bytes = BYTES_OF(text).buffer;
  return half ? Float32Array.from(new Uint16Array(bytes), (bits) => HALVES[bits]) : new Float32Array(bytes);
}

/** a = f(z) in place, for the z of a layer; the formulas of gpunn/kernels/formulas/activations.py. */
const ACTIVATE = {
  sigmoid: elementwise((z) => 1 / (1 + Math.exp(-z))),
  tanh: elementwise(Math.tanh),
  relu: elementwise((z) => Math.max(z, 0)),
  leaky_relu: elementwise((z) => Math.max(z, 0.01 * z)),
  elu: elementwise((z) => (z > 0 ? z : Math.expm1(z))),
  identity: elementwise((z) => z),
  softmax(z) {
    const largest = z.reduce((a, b) => Math.max(a, b), -Infinity);
    let total = 0;
    for (let j = 0; j < z.length; j++) total += Math.exp(z[j] - largest);
    for (let j = 0; j < z.length; j++) z[j] = Math.exp(z[j] - largest) / total;
  },
};

function elementwise(f) {
  return (z) => {
    for (let j = 0; j < z.length; j++) z[j] = f(z[j]);
  };
}

/** Functions whose values are at least 0. */
const NEVER_NEGATIVE = new Set(["sigmoid", "relu", "softmax"]);
/** Functions whose values have an upper end, 1. */
const BOUNDED = new Set(["sigmoid", "tanh", "softmax"]);

/** A network of `layers`, pairs of weights (row by row) and biases in base64, with activation `functions`. */
class Network {
  constructor(layers, functions, half) {
    this.layers = layers.map(([weights, biases], l) => {
      const layer = { weights: decodedFloats(weights, half), biases: decodedFloats(biases, half), f: functions[l] };
      layer.size = layer.biases.length;
      layer.inputs = layer.weights.length / layer.size;
      return layer;
    });
  }

  /** Return the sums z (undefined for the inputs) and the activations a of each layer for the inputs `pixels`. */
  forward(pixels) {
    const sums = [undefined], activations = [pixels];
    for (const { weights, biases, f, size, inputs } of this.layers) {
      const below = activations.at(-1), z = new Float32Array(size);
      // Most pixels are 0, and so is what many ReLUs give.
      const lit = [];
      for (let k = 0; k < inputs; k++) if (below[k] !== 0) lit.push(k);
      for (let j = 0; j < size; j++) {
        let sum = biases[j];
        const row = j * inputs;
        for (let i = 0; i < lit.length; i++) sum += weights[row + lit[i]] * below[lit[i]];
        z[j] = sum;
      }
      const a = z.slice();
      ACTIVATE[f](a);
      sums.push(z);
      activations.push(a);
    }
    return { sums, activations };
  }
}

/** Return the class that `outputs` stand for: the largest one's index; of a single output, whether it is above 0.5. */
function decided(outputs) {
  if (outputs.length === 1) return outputs[0] > 0.5 ? 1 : 0;
  let best = 0;
  for (let j = 1; j < outputs.length; j++) if (outputs[j] > outputs[best]) best = j;
  return best;
}

/** Return the share of the class `label` in `outputs`, as gpunn's predict_proba computes it. */
function shareOf(outputs, label) {
  if (outputs.length === 1) {
    const yes = Math.min(Math.max(outputs[0], 0), 1);
    return label ? yes : 1 - yes;
  }
  const total = outputs.reduce((sum, a) => sum + Math.max(a, 0), 0);
  return total > 0 ? Math.max(outputs[label], 0) / total : 1 / outputs.length;
}
