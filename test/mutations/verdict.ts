/** What of vitest's JSON report is looked at. */
export type Report = {
  success: boolean
  numPassedTests: number
  testResults: readonly {
    name: string
    message: string
    assertionResults: readonly { status: string; fullName: string; failureMessages: readonly string[] }[]
  }[]
}

/** `caught`: a test noticed. `survived`: none did. `broken`: the mutant doesn't even load, so that nothing was shown. */
export type Verdict = { outcome: 'caught' | 'survived' | 'broken'; by: string; how: string }

/** Not a wrong answer but none at all: the planted text is no program, or no SQL. */
const NO_PROGRAM = /SyntaxError|ReferenceError|ERR_[A-Z_]+|is not a function|syntax error at or near/

/** What a run of the tests on a mutant says of it. Without a report: the run ended before its first test, or was ended because it took too long. */
export function verdictOf(report: Report | undefined, isTimedOut: boolean, words: string): Verdict {
  const failed = report?.testResults.flatMap(file => file.assertionResults.filter(({ status }) => status === 'failed')) ?? []
  const [first] = failed
  if (first !== undefined) {
    const how = firstLine(first.failureMessages.join('\n'))
    return NO_PROGRAM.test(how) ? { outcome: 'broken', by: first.fullName, how } : { outcome: 'caught', by: first.fullName, how }
  }
  if (isTimedOut) return { outcome: 'caught', by: 'no test ended', how: 'took too long' }
  // As a loop without an end does it that never waits for anything real.
  if (report?.success !== true && /heap out of memory|Last few GCs|Worker exited unexpectedly/.test(words))
    return { outcome: 'caught', by: 'no test ended', how: 'ran out of memory' }
  const unloaded = report?.testResults.find(({ message }) => message !== '')
  if (report?.success !== true || unloaded !== undefined || report.numPassedTests === 0) {
    return { outcome: 'broken', by: '', how: firstLine(unloaded?.message ?? words) }
  }
  return { outcome: 'survived', by: '', how: `${report.numPassedTests} tests pass` }
}

function firstLine(text: string): string {
  return (
    text
      .split('\n')
      .find(line => line.trim() !== '')
      ?.trim()
      .slice(0, 200) ?? 'nothing was said'
  )
}
