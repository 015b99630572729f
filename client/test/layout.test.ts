import assert from "node:assert/strict";
import { test } from "node:test";
import { type Arrangement, arrange, type Rect, type Size } from "../demo/layout.ts";

const FLOORS: Record<string, Size> = {
  desktop: { width: 1248, height: 640 },
  "desktop with panel": { width: 872, height: 640 },
  "upright phone": { width: 340, height: 620 },
  "small phone": { width: 340, height: 440 },
  "phone on its side": { width: 640, height: 300 },
};

function all({ people, screens }: Arrangement): Rect[] {
  return [...screens, ...people];
}

function check(floor: Size, arrangement: Arrangement, label: string): void {
  const rects = all(arrangement);
  for (const rect of rects) {
    assert.ok(rect.width >= 36 && rect.height >= 20, `${label}: ${JSON.stringify(rect)} is too small`);
    assert.ok(rect.x >= -0.5 && rect.y >= -0.5, `${label}: ${JSON.stringify(rect)} begins outside`);
    assert.ok(rect.x + rect.width <= floor.width + 0.5, `${label}: ${JSON.stringify(rect)} ends outside`);
    assert.ok(rect.y + rect.height <= floor.height + 0.5, `${label}: ${JSON.stringify(rect)} ends outside`);
  }
  if (arrangement.mode === "duo") return;
  for (const [i, a] of rects.entries()) {
    for (const b of rects.slice(i + 1)) {
      const apart =
        a.x + a.width <= b.x + 0.5 ||
        b.x + b.width <= a.x + 0.5 ||
        a.y + a.height <= b.y + 0.5 ||
        b.y + b.height <= a.y + 0.5;
      assert.ok(apart, `${label}: ${JSON.stringify(a)} and ${JSON.stringify(b)} overlap`);
    }
  }
}

for (const [name, floor] of Object.entries(FLOORS)) {
  test(`1 to 20 people on a ${name}, with and without screens: all within, none over another`, () => {
    for (let people = 1; people <= 20; people++) {
      for (let screens = 0; screens <= 2; screens++) {
        const arrangement = arrange(floor, people, screens);
        assert.equal(arrangement.people.length, people);
        assert.equal(arrangement.screens.length, screens);
        check(floor, arrangement, `${people} people, ${screens} screens`);
      }
    }
  });
}

test("all people get the same room, the last row is centred", () => {
  const { people } = arrange({ width: 1248, height: 640 }, 5, 0);
  assert.equal(new Set(people.map(({ width }) => Math.round(width))).size, 1);
  const last = people.filter(({ y }) => y > 320);
  assert.equal(last.length, 2);
  const [left, right] = last;
  assert.ok(left && right);
  assert.ok(Math.abs(left.x - (1248 - (right.x + right.width))) < 1);
});

test("the grid takes most of the floor", () => {
  for (const count of [1, 2, 4, 6, 9, 12, 16, 20]) {
    const { people } = arrange({ width: 1248, height: 700 }, count, 0);
    const used = people.reduce((sum, { width, height }) => sum + width * height, 0) / (1248 * 700);
    assert.ok(used > 0.6, `${count} tiles use ${used.toFixed(2)}`);
  }
});

test("two on an upright phone: the other fills it, oneself sits in a corner", () => {
  const floor = { width: 370, height: 700 };
  const { mode, people } = arrange(floor, 2, 0);
  assert.equal(mode, "duo");
  const [self, other] = people;
  assert.deepEqual(other, { x: 0, y: 0, ...floor });
  assert.ok(self && self.width < 130 && self.x > 200 && self.y > 400);
});

test("a shared screen gets the greater part", () => {
  for (const floor of Object.values(FLOORS)) {
    const { screens } = arrange(floor, 4, 1);
    const [screen] = screens;
    assert.ok(screen && screen.width * screen.height > floor.width * floor.height * 0.6);
  }
});

test("nobody there is no tile", () => {
  assert.deepEqual(arrange({ width: 800, height: 600 }, 0, 0).people, []);
});
