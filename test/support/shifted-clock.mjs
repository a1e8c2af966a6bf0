// Loaded with NODE_OPTIONS=--import: a process whose time of day is wrong by PAWL_TEST_CLOCK_SHIFT_MS. Its stopwatch is right, as on a real machine.
const shiftMs = Number(process.env.PAWL_TEST_CLOCK_SHIFT_MS ?? 0)
const RightDate = Date

class ShiftedDate extends RightDate {
  constructor(...words) {
    if (words.length === 0) super(ShiftedDate.now())
    else super(...words)
  }

  static now() {
    return RightDate.now() + shiftMs
  }
}

globalThis.Date = ShiftedDate
