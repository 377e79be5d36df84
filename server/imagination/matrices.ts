// Small dense matrices of numbers, row by row, that are needed before a graph runs.

/** A B^T, of a [rows, inner] and b [columns, inner]. */
export function timesTransposed(a: Float32Array, rows: number, b: Float32Array, columns: number, inner: number): Float32Array {
  return Float32Array.from({ length: rows * columns }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = 0;
    for (let k = 0; k < inner; k++) sum += a[row * inner + k] * b[column * inner + k];
    return sum;
  });
}

/** A B + c, of a [n, n], b [n, m] and c [n], which every column of the product gets; none when left out. */
export function mixed(a: ArrayLike<number>, b: ArrayLike<number>, n: number, c?: ArrayLike<number>): Float32Array {
  const columns = b.length / n;
  return Float32Array.from({ length: b.length }, (_, i) => {
    const [row, column] = [Math.floor(i / columns), i % columns];
    let sum = c?.[row] ?? 0;
    for (let k = 0; k < n; k++) sum += a[row * n + k] * b[k * columns + column];
    return sum;
  });
}

/** The inverse of a matrix [n, n] (Gauss and Jordan, pivots by rows). Throws an Error where there is none. */
export function inverse(matrix: ArrayLike<number>, n: number): Float64Array {
  const a = Float64Array.from(matrix);
  const out = new Float64Array(n * n);
  for (let i = 0; i < n; i++) out[i * n + i] = 1;
  for (let column = 0; column < n; column++) {
    let pivot = column;
    for (let row = column + 1; row < n; row++) if (Math.abs(a[row * n + column]) > Math.abs(a[pivot * n + column])) pivot = row;
    const by = a[pivot * n + column];
    if (!(Math.abs(by) > 0)) throw new Error(`the matrix has no inverse: column ${column} depends on those before it`);
    for (const m of [a, out])
      for (let k = 0; k < n; k++) {
        const swapped = m[pivot * n + k];
        m[pivot * n + k] = m[column * n + k];
        m[column * n + k] = swapped / by;
      }
    for (let row = 0; row < n; row++) {
      const factor = a[row * n + column];
      if (row === column || factor === 0) continue;
      for (const m of [a, out]) for (let k = 0; k < n; k++) m[row * n + k] -= factor * m[column * n + k];
    }
  }
  return out;
}
