import { access, constants, mkdir } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { codeOf } from '../src/errors.ts'

/** A folder for what the demonstration makes: in the project, or under the system's temporary directory where someone else owns the checkout. */
export async function ownDir(name: string): Promise<string> {
  const [own, other] = [fileURLToPath(new URL(`../.pawl/${name}`, import.meta.url)), join(tmpdir(), `pawl-${name}-${process.getuid?.() ?? 'me'}`)]
  try {
    await mkdir(own, { recursive: true })
    await access(own, constants.W_OK)
    return own
  } catch (error) {
    if (!['EACCES', 'EPERM', 'EROFS'].includes(codeOf(error) ?? '')) throw error
    await mkdir(other, { recursive: true })
    return other
  }
}
