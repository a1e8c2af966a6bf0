import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, inject, onTestFinished, test } from 'vitest'
import { readConfig } from '../../src/config.ts'
import { connectDirect } from '../../src/database.ts'
import { dropAbandonedScratch } from '../../workers/maintenance/backups/scratch.ts'
import { ask } from '../support/embedded.ts'
import { until } from '../support/until.ts'
import { addGoods, askIn, openRestoreStage, scratches } from './restore-stage.ts'

test('of a process that is killed the next one drops the copy; of one that lives nobody does', async () => {
  const stage = await openRestoreStage({ empty: true })
  await addGoods(stage.query)
  const { stored } = await stage.take()
  const child = spawn(process.execPath, [fileURLToPath(new URL('./verify-process.ts', import.meta.url)), stored.manifest.name], {
    env: { PATH: process.env.PATH, DATABASE_URL: stage.db.url, ...stage.env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  // It says where it is, and then stands still in the middle of the comparison.
  await new Promise<void>(resolve => child.stdout?.once('data', () => resolve()))
  const [copy = 'none'] = await scratches()
  expect(await askIn(copy, 'select count(*) from shop.goods')).toEqual([{ count: 3000 }])
  expect(await dropAbandonedScratch(stage.context())).toEqual([])
  expect(await scratches()).toEqual([copy])
  const ended = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGKILL')
  await ended
  expect(await until('the lock is free', async () => ((await dropAbandonedScratch(stage.context())).includes(copy) ? [copy] : undefined))).toEqual([copy])
  expect(await scratches()).toEqual([])
})

test('only what Pawl has made is dropped, and what is in use elsewhere on the server is not', async () => {
  const stage = await openRestoreStage({ empty: true })
  const names = ['pawl_scratch_of_mine', 'pawl_scratch_0123456789abcdef', 'pawl_scratch_fedcba9876543210']
  for (const name of names) await ask(inject('adminUrl'), `create database ${name}`)
  onTestFinished(async () => {
    for (const name of names) await ask(inject('adminUrl'), `drop database if exists ${name}`)
  })
  // Held from another database than any that Pawl would choose.
  const holder = await connectDirect(readConfig({ DATABASE_URL: stage.db.url }), 'holder')
  onTestFinished(() => holder.close())
  await holder.query(`select pg_advisory_lock(1885435757, hashtext('pawl_scratch_fedcba9876543210'))`)
  expect(await dropAbandonedScratch(stage.context())).toEqual(['pawl_scratch_0123456789abcdef'])
  expect(await scratches()).toEqual(['pawl_scratch_fedcba9876543210', 'pawl_scratch_of_mine'])
})
