import { describe, expect, it } from 'vitest';
import { parseUnit, requireUnit, unitName, UnknownUnitError } from '../../models/brivl/units.js';
import { defaultModel } from '../../models/registry.js';
import { openRegistry } from '../../server/compute/engine.js';

describe('units', () => {
  it.each([
    ['LLP-108', { layer: 'LLP', channel: 108, spot: 'mean' }],
    ['block7.1/ch-33', { layer: 'block7.1', channel: 33, spot: 'mean' }],
    ['attention1/ch-0@centre', { layer: 'attention1', channel: 0, spot: 'centre' }],
    ['LLP-9@0,6', { layer: 'LLP', channel: 9, spot: { y: 0, x: 6 } }],
  ] as const)('%s is read and written', (text, unit) => {
    expect(parseUnit(text)).toEqual(unit);
    expect(unitName(parseUnit(text))).toBe(text);
  });

  it.each(['LLP', 'LLP-', 'LLP--1', 'llp-3', 'LLP-1.5', 'block7/33', 'LLP-3@', 'LLP-3@1', 'LLP-3=2', ' LLP-3', 'a b/ch-3'])(
    '%j is none, and the sentence says how one is written',
    (text) => {
      expect(() => parseUnit(text)).toThrow(UnknownUnitError);
      expect(() => parseUnit(text)).toThrow(/LLP-108/);
    },
  );

  it('a centre may be spelled as in America', () => {
    expect(unitName(parseUnit('LLP-3@center'))).toBe('LLP-3@centre');
  });

  it('what a model does not have is told with what it has', () => {
    const { name, eye } = openRegistry().openEye(defaultModel);
    const model = { name, layers: eye.layers };
    expect(requireUnit(model, parseUnit('block7.1/ch-319'))).toEqual({ name: 'block7.1', channels: 320 });
    expect(() => requireUnit(model, parseUnit('LLP-1280'))).toThrow(
      'brivl-nano has no neuron LLP-1280: its neurons are LLP-0 to LLP-1279',
    );
    expect(() => requireUnit(model, parseUnit('block7.2/ch-0'))).toThrow(/no layer "block7.2": its layers are stem, block1.1/);
  });
});
