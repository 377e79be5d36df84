/** Mean, spread and extremes of each of many channels, one picture at a time (Welford 1962). */
export class Moments {
  /** [1]: how many pictures. */
  readonly count = new Float64Array(1);
  readonly means: Float64Array;
  /** Sums of squared distances from the mean. */
  readonly squares: Float64Array;
  readonly most: Float32Array;

  constructor(readonly channels: number) {
    this.means = new Float64Array(channels);
    this.squares = new Float64Array(channels);
    this.most = new Float32Array(channels).fill(-Infinity);
  }

  /**
   * @param values [channels]
   * @param before takes each value's distance from the mean before it: [channels]
   * @param after the same from the mean after it
   */
  add(values: Float32Array, before: Float64Array, after: Float64Array): void {
    const { means, squares, most } = this;
    const n = (this.count[0] += 1);
    for (let c = 0; c < values.length; c++) {
      const value = values[c];
      const from = (before[c] = value - means[c]);
      means[c] += from / n;
      const to = (after[c] = value - means[c]);
      squares[c] += from * to;
      if (value > most[c]) most[c] = value;
    }
  }

  /** Standard deviation over the pictures. */
  deviation(channel: number): number {
    return Math.sqrt(this.squares[channel] / Math.max(1, this.count[0]));
  }

  get arrays() {
    const { count, means, squares, most } = this;
    return { count, means, squares, most };
  }
}

/** Sums of products of two sets' distances from their means, [rows, columns]: their covariance times the number of pictures. */
export class CoMoments {
  readonly products: Float64Array;

  constructor(
    readonly rows: number,
    readonly columns: number,
  ) {
    this.products = new Float64Array(rows * columns);
  }

  /** @param before,after as `Moments.add` gives them, of the rows' and of the columns' values */
  add(before: Float64Array, after: Float64Array): void {
    const { products, rows, columns } = this;
    for (let r = 0, at = 0; r < rows; r++) {
      const factor = before[r];
      for (let c = 0; c < columns; c++) products[at++] += factor * after[c];
    }
  }
}

/** The same of a set with itself, of each pair once: [channels (channels + 1) / 2], row by row up to the diagonal. */
export class SelfMoments {
  readonly products: Float64Array;

  constructor(readonly channels: number) {
    this.products = new Float64Array((channels * (channels + 1)) / 2);
  }

  add(before: Float64Array, after: Float64Array): void {
    const { products, channels } = this;
    for (let r = 0, at = 0; r < channels; r++) {
      const factor = before[r];
      for (let c = 0; c <= r; c++) products[at++] += factor * after[c];
    }
  }

  /** Pearson's correlation, which is the cosine of the two channels' centred profiles over the pictures; 0 with one that never changes. */
  correlation(a: number, b: number): number {
    const square = (c: number) => this.products[(c * (c + 1)) / 2 + c];
    const [high, low] = a > b ? [a, b] : [b, a];
    const length = Math.sqrt(square(a) * square(b));
    return length > 0 ? this.products[(high * (high + 1)) / 2 + low] / length : 0;
  }
}
