import { defineConfig } from 'drizzle-kit'

// `drizzle-kit generate` writes the tables' part of a migration; partitions, functions, triggers and grants are added by hand
// before it lands. Never `push` or `pull`: both lose what the DSL can't say. `pawl migrate` applies the files.
export default defineConfig({
  dialect: 'postgresql',
  schema: './src/schema/*.ts',
  out: './drizzle',
  schemaFilter: ['public', 'pawl', 'sqp', 'reporting'],
})
