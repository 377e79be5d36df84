CREATE TABLE `blobs` (
	`id` text PRIMARY KEY NOT NULL,
	`mime` text NOT NULL,
	`bytes` integer NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
CREATE TABLE `checkpoints` (
	`job_id` text PRIMARY KEY NOT NULL,
	`step` integer NOT NULL,
	`blob` text NOT NULL,
	`created_at` integer NOT NULL,
	FOREIGN KEY (`job_id`) REFERENCES `jobs`(`id`) ON UPDATE no action ON DELETE cascade,
	FOREIGN KEY (`blob`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `checkpoints_by_blob` ON `checkpoints` (`blob`);--> statement-breakpoint
CREATE TABLE `images` (
	`id` text PRIMARY KEY NOT NULL,
	`width` integer NOT NULL,
	`height` integer NOT NULL,
	`created_at` integer NOT NULL,
	FOREIGN KEY (`id`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE TABLE `jobs` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`status` text NOT NULL,
	`position` real NOT NULL,
	`job` text NOT NULL,
	`init_image` text,
	`idempotency_key` text,
	`step` integer DEFAULT 0 NOT NULL,
	`cos` real,
	`second_opinion` real,
	`text_concepts` text DEFAULT '[]' NOT NULL,
	`notices` text DEFAULT '[]' NOT NULL,
	`error` text,
	`attempt` integer DEFAULT 0 NOT NULL,
	`crashes` integer DEFAULT 0 NOT NULL,
	`created_at` integer NOT NULL,
	`started_at` integer,
	`finished_at` integer,
	FOREIGN KEY (`init_image`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `jobs_id_unique` ON `jobs` (`id`);--> statement-breakpoint
CREATE UNIQUE INDEX `jobs_idempotency_key_unique` ON `jobs` (`idempotency_key`);--> statement-breakpoint
CREATE INDEX `jobs_by_status` ON `jobs` (`status`,`position`);--> statement-breakpoint
CREATE INDEX `jobs_by_init_image` ON `jobs` (`init_image`);--> statement-breakpoint
CREATE TABLE `results` (
	`seq` integer PRIMARY KEY AUTOINCREMENT NOT NULL,
	`id` text NOT NULL,
	`job_id` text NOT NULL,
	`job` text NOT NULL,
	`model_name` text NOT NULL,
	`model_hash` text NOT NULL,
	`device` text NOT NULL,
	`width` integer NOT NULL,
	`height` integer NOT NULL,
	`cos` real NOT NULL,
	`second_opinion` real,
	`text_concepts` text NOT NULL,
	`picture_concepts` text NOT NULL,
	`second_opinion_concepts` text NOT NULL,
	`curve` text NOT NULL,
	`seconds` real NOT NULL,
	`notices` text NOT NULL,
	`image` text NOT NULL,
	`created_at` integer NOT NULL,
	FOREIGN KEY (`job_id`) REFERENCES `jobs`(`id`) ON UPDATE no action ON DELETE cascade,
	FOREIGN KEY (`image`) REFERENCES `blobs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE UNIQUE INDEX `results_id_unique` ON `results` (`id`);--> statement-breakpoint
CREATE UNIQUE INDEX `results_job_id_unique` ON `results` (`job_id`);--> statement-breakpoint
CREATE INDEX `results_by_image` ON `results` (`image`);